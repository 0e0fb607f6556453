// The key of this tab: in sessionStorage, so that it ends with the tab, and nowhere else.
import { Cell } from "./cell";

const NAME = "taskfleet.key";

export interface Session {
  key: string;
  /** The API wants a key, or another one. */
  locked: boolean;
  /** A key was sent and refused. */
  refused: boolean;
}

export const session = new Cell<Session>({ key: read(), locked: false, refused: false });

function read(): string {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

export function keepKey(key: string): void {
  store(key);
  session.set({ key, locked: false, refused: false });
}

export function forgetKey(): void {
  store("");
  session.set({ key: "", locked: true, refused: false });
}

/** The API answered 401. */
export function rejectKey(): void {
  if (session.value.locked) return;
  const refused = session.value.key !== "";
  store("");
  session.set({ key: "", locked: true, refused });
}

function store(key: string): void {
  try {
    if (key) sessionStorage.setItem(NAME, key);
    else sessionStorage.removeItem(NAME);
  } catch {
    // No storage: the key lives as long as the page.
  }
}
