// Dark or light: the system's, unless chosen. `theme.js` sets the choice before the first paint.
import { Cell } from "./cell";

const NAME = "taskfleet.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export const dark = new Cell<boolean>(isDark());

function isDark(): boolean {
  const chosen = document.documentElement.dataset["theme"];
  return chosen ? chosen === "dark" : system.matches;
}

system.addEventListener("change", () => dark.set(isDark()));

export function toggleTheme(): void {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset["theme"] = theme;
  try {
    localStorage.setItem(NAME, theme);
  } catch {
    // No storage: it holds for this page.
  }
  dark.set(isDark());
}
