// Questions before what cannot be taken back, and short messages after what was done.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Cell, useCell } from "../state/cell";

interface Question {
  title: string;
  text: string;
  verb: string;
  dangerous: boolean;
  answer(agreed: boolean): void;
}

const question = new Cell<Question | null>(null);

/** Ask; false when the answer is no. */
export function confirm(title: string, text: string, verb: string, dangerous = true): Promise<boolean> {
  return new Promise((resolve) => question.set({ title, text, verb, dangerous, answer: resolve }));
}

export function Dialog(
  { title, close, children }: { title: string; close: () => void; children: ComponentChildren },
): JSX.Element {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    element.current?.showModal();
    return () => element.current?.close();
  }, []);
  return (
    <dialog ref={element} aria-label={title} onCancel={(event) => (event.preventDefault(), close())}>
      <h2>{title}</h2>
      {children}
    </dialog>
  );
}

export function Questions(): JSX.Element | null {
  const asked = useCell(question);
  if (!asked) return null;
  const answer = (agreed: boolean) => {
    question.set(null);
    asked.answer(agreed);
  };
  return (
    <Dialog title={asked.title} close={() => answer(false)}>
      <p>{asked.text}</p>
      <div class="buttons">
        <button type="button" onClick={() => answer(false)}>Leave it</button>
        <button type="button" class={asked.dangerous ? "danger" : "primary"} autofocus onClick={() => answer(true)}>
          {asked.verb}
        </button>
      </div>
    </Dialog>
  );
}

interface Message {
  id: number;
  text: string;
  failed: boolean;
}

const MESSAGE_MILLISECONDS = 6_000;
const messages = new Cell<readonly Message[]>([]);
let last = 0;

export function tell(text: string, failed = false): void {
  const message = { id: ++last, text, failed };
  messages.set([...messages.value.slice(-3), message]);
  setTimeout(() => messages.set(messages.value.filter((other) => other !== message)), MESSAGE_MILLISECONDS);
}

export function Messages(): JSX.Element {
  const shown = useCell(messages);
  return (
    <div class="messages" role="status" aria-live="polite">
      {shown.map((message) => <div key={message.id} class={message.failed ? "failed" : ""}>{message.text}</div>)}
    </div>
  );
}
