// The page that asks for a key, and the keyboard.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { keepKey, session } from "../state/session";
import { useCell } from "../state/cell";
import { go, href } from "../state/router";
import { toggleTheme } from "../state/theme";
import { Dialog } from "./dialogs";

export function KeyPage(): JSX.Element {
  const { refused } = useCell(session);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const submit = (event: Event) => {
    event.preventDefault();
    const key = input.current!.value.trim();
    if (key) keepKey(key);
  };
  return (
    <main class="gate">
      <form onSubmit={submit}>
        <h1><Mark /> Taskfleet</h1>
        <label for="key">Key</label>
        <input id="key" ref={input} type="password" autocomplete="off" spellcheck={false} aria-describedby="key-note" aria-invalid={refused} />
        {refused && <p class="wrong" role="alert">The API does not accept this key.</p>}
        <p id="key-note" class="note">
          An API key, or a token that the API takes. It stays in this tab and is forgotten with it.
        </p>
        <button class="primary">Open the console</button>
      </form>
    </main>
  );
}

export function Mark(): JSX.Element {
  return (
    <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M7 10h18M7 16h12M7 22h7" />
    </svg>
  );
}

const KEYS: readonly (readonly [string, string])[] = [
  ["g q", "all queues"],
  ["g t", "all tasks"],
  ["/", "to the filter"],
  ["j k, arrows", "next row, row before"],
  ["Enter", "open the row"],
  ["x", "select the row"],
  ["d", "dark or light"],
  ["?", "this list"],
];

/** Keys that work on every page; none while a field has the focus. */
export function Keyboard(): JSX.Element | null {
  const [shown, show] = useState(false);
  useEffect(() => {
    let before = "";
    const press = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target as HTMLElement;
      if (target.closest("input:not([type=checkbox]), textarea, select, dialog")) return;
      const both = `${before}${event.key}`;
      before = event.key === "g" ? "g" : "";
      const table = document.querySelector<HTMLElement>(".scroller");
      if (both === "gq") go(href([]));
      else if (both === "gt") go(href(["tasks"]));
      else if (event.key === "/") document.querySelector<HTMLElement>("[data-filter]")?.focus();
      else if (event.key === "d") toggleTheme();
      else if (event.key === "?") show(true);
      else if ((event.key === "j" || event.key === "k") && table && !table.contains(target)) {
        table.focus();
        table.dispatchEvent(new KeyboardEvent("keydown", { key: event.key, bubbles: true, cancelable: true }));
      } else return;
      event.preventDefault();
    };
    const open = () => show(true);
    document.addEventListener("keydown", press);
    document.addEventListener("show-keys", open);
    return () => (document.removeEventListener("keydown", press), document.removeEventListener("show-keys", open));
  }, []);
  if (!shown) return null;
  return (
    <Dialog title="Keys" close={() => show(false)}>
      <dl class="keys">
        {KEYS.map(([keys, meaning]) => <div key={keys}><dt><kbd>{keys}</kbd></dt><dd>{meaning}</dd></div>)}
      </dl>
      <div class="buttons"><button type="button" autofocus onClick={() => show(false)}>Close</button></div>
    </Dialog>
  );
}
