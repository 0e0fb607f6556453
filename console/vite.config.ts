import { defineConfig } from "vite";

// `./` and the page's <base>: the console works below any prefix that a proxy gives it.
export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    assetsInlineLimit: 0, // the policy allows no inline scripts
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
});
