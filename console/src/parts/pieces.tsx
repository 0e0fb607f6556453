// Small pieces that every page uses.
import type { ComponentChildren, JSX } from "preact";
import { describe, Problem } from "../api/client";
import type { TaskState } from "../api/types";

export const STATES: readonly TaskState[] = [
  "scheduled", "pending", "queued", "running", "retrying", "succeeded", "failed", "cancelled", "expired", "dead",
];
export const FINAL: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled", "expired", "dead"]);
export const RETRYABLE: ReadonlySet<string> = new Set(["failed", "cancelled", "expired", "dead"]);

export function State({ state }: { state: string }): JSX.Element {
  return <span class={`state s-${state}`}>{state}</span>;
}

/** Nothing to show, and what to do about it. */
export function Empty({ title, children, page }: { title: string; children?: ComponentChildren; page?: boolean }): JSX.Element {
  return <div class="empty">{page ? <h1>{title}</h1> : <h2>{title}</h2>}{children}</div>;
}

export function Failure({ error, retry, page }: { error: unknown; retry?: () => void; page?: boolean }): JSX.Element {
  const title = error instanceof Problem && error.status === 404 ? "Not found"
    : error instanceof Problem && error.status === 403 ? "Not allowed"
    : "This could not be read";
  return (
    <div class="empty" role="alert">
      {page ? <h1>{title}</h1> : <h2>{title}</h2>}
      <p>{describe(error)}</p>
      {retry && <button type="button" onClick={retry}>Try again</button>}
    </div>
  );
}

export function Loading(): JSX.Element {
  return <div class="empty loading" role="status">Reading…</div>;
}

export function Panel(
  { title, note, actions, children, id }:
  { title: string; note?: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren; id?: string },
): JSX.Element {
  return (
    <section class="panel" id={id} aria-label={title}>
      <header><h2>{title}</h2>{note && <span class="note">{note}</span>}<span class="fill" />{actions}</header>
      {children}
    </section>
  );
}

/** A figure with its name above it. */
export function Figure(
  { name, value, note, tone }: { name: string; value: ComponentChildren; note?: ComponentChildren; tone?: string },
): JSX.Element {
  return (
    <div class={`figure ${tone ?? ""}`}>
      <dt>{name}</dt>
      <dd>{value}{note && <small>{note}</small>}</dd>
    </div>
  );
}

const FEWEST_POINTS = 20;
const MOST_POINTS = 150;

/** A line of the last values, the newest at the right. */
export function Sparkline({ values }: { values: readonly (number | null)[] }): JSX.Element {
  const points = Math.max(FEWEST_POINTS, Math.min(MOST_POINTS, values.length));
  const shown = values.slice(-points);
  const top = Math.max(1e-9, ...shown.map((value) => value ?? 0));
  const step = 100 / (points - 1);
  const start = points - shown.length;
  const places = shown.flatMap((value, index) =>
    value === null ? [] : [`${((start + index) * step).toFixed(1)},${(19 - (value / top) * 17).toFixed(1)}`]);
  return (
    <svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true">
      {places.length > 1 && <polyline points={places.join(" ")} vector-effect="non-scaling-stroke" />}
    </svg>
  );
}

const ONE_LINE_CHARACTERS = 72;

export function Json({ value }: { value: unknown }): JSX.Element {
  const line = JSON.stringify(value) ?? "null";
  return <pre class="json" tabIndex={0}>{line.length <= ONE_LINE_CHARACTERS ? line : JSON.stringify(value, null, 2)}</pre>;
}

/** Copies a text; says so for a moment. */
export function Copy({ text, label }: { text: string; label: string }): JSX.Element {
  const copy = async (event: Event) => {
    const button = event.currentTarget as HTMLButtonElement;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      button.textContent = "not allowed";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  };
  return <button type="button" class="quiet" aria-label={label} onClick={copy}>copy</button>;
}
