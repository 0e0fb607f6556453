// Addresses below `/ui/`: pages are paths, filters are the query, so that every view can be kept and sent.
import { Cell } from "./cell";

export interface Route {
  path: readonly string[];
  query: URLSearchParams;
}

const BASE = new URL(document.baseURI).pathname;

export const route = new Cell<Route>(read());

function read(): Route {
  const path = location.pathname.startsWith(BASE) ? location.pathname.slice(BASE.length) : "";
  const parts = path.split("/").filter(Boolean).map(decode);
  return { path: parts, query: new URLSearchParams(location.search) };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a page, relative to the base. */
export function href(path: readonly string[], query?: URLSearchParams | Record<string, string>): string {
  const search = query ? new URLSearchParams(query).toString() : "";
  return BASE + path.map(encodeURIComponent).join("/") + (search ? `?${search}` : "");
}

export function go(address: string, replace = false): void {
  if (replace) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  route.set(read());
}

addEventListener("popstate", () => route.set(read()));

// Links are ordinary links; a plain click on one of ours changes the page without loading it.
document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || link.target || link.origin !== location.origin || !link.pathname.startsWith(BASE)) return;
  event.preventDefault();
  go(link.pathname + link.search);
});
