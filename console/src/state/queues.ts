// The queues: read every few seconds while the page is seen, with what was seen since it was opened.
import { isAbort, Problem, request } from "../api/client";
import type { QueueList, QueueModel } from "../api/types";
import { Cell } from "./cell";
import { session } from "./session";

const PAUSE_MILLISECONDS = 2_000;
const PAUSE_OF_MANY_MILLISECONDS = 5_000;
const MANY = 300;
const KEPT_POINTS = 300;

/** What one reading said of one queue. */
export interface Point {
  at: number; // Unix seconds
  ready: number | null;
  running: number | null;
  arrivals: number | null;
  completions: number | null;
  workers: number | null;
  wanted: number | null;
}

export interface Queues {
  items: readonly QueueModel[];
  loaded: boolean;
  /** Why the last reading failed; the items are then those of the last one that did not. */
  problem: Problem | null;
  readAt: number;
}

export const queues = new Cell<Queues>({ items: [], loaded: false, problem: null, readAt: 0 });
const seen = new Map<string, Point[]>();

/** What was seen of a queue since the page was opened, oldest first. */
export function history(name: string): readonly Point[] {
  return seen.get(name) ?? [];
}

export function findQueue(name: string): QueueModel | undefined {
  return queues.value.items.find((queue) => queue.name === name);
}

let timer: ReturnType<typeof setTimeout> | undefined;
let reading: AbortController | undefined;

/** Read now, then go on reading. */
export function refreshQueues(): void {
  clearTimeout(timer);
  reading?.abort();
  reading = new AbortController();
  void read(reading.signal);
}

async function read(signal: AbortSignal): Promise<void> {
  try {
    const { items } = await request<QueueList>(["queues"], { signal });
    note(items);
    queues.set({ items, loaded: true, problem: null, readAt: Date.now() });
  } catch (error) {
    if (isAbort(error)) return;
    queues.update({ problem: error instanceof Problem ? error : new Problem(0, String(error)) });
  }
  if (session.value.locked) return;
  const pause = queues.value.items.length > MANY ? PAUSE_OF_MANY_MILLISECONDS : PAUSE_MILLISECONDS;
  timer = setTimeout(() => (document.hidden ? undefined : refreshQueues()), pause);
}

function note(items: readonly QueueModel[]): void {
  const names = new Set(items.map((queue) => queue.name));
  for (const name of seen.keys()) if (!names.has(name)) seen.delete(name);
  for (const queue of items) {
    const points = seen.get(queue.name) ?? [];
    points.push({
      at: Date.now() / 1000,
      ready: queue.ready,
      running: queue.unacknowledged ?? queue.busy,
      arrivals: queue.arrivals_per_second,
      completions: queue.completions_per_second,
      workers: queue.consuming,
      wanted: queue.decision?.replicas ?? null,
    });
    if (points.length > KEPT_POINTS) points.shift();
    seen.set(queue.name, points);
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refreshQueues();
});
session.subscribe(() => {
  if (!session.value.locked) refreshQueues();
});
