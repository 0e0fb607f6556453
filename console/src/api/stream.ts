// Server-sent events over fetch: EventSource could not send the key. A stream that ends or breaks is opened again.
import { address, headers, isAbort, Problem, send, type Options } from "./client";

export interface StreamEvent {
  event: string;
  id: string;
  data: string;
}

const SILENCE_MILLISECONDS = 40_000; // the API says something at least every 15 s
const FIRST_PAUSE_MILLISECONDS = 500;
const LONGEST_PAUSE_MILLISECONDS = 5_000;

/** Splits text into events as it arrives; half an event waits for its rest. */
export class EventParser {
  private rest = "";

  push(text: string): StreamEvent[] {
    this.rest += text.replaceAll("\r\n", "\n");
    const blocks = this.rest.split("\n\n");
    this.rest = blocks.pop() ?? "";
    return blocks.map(parseBlock).filter((event) => event.data !== "");
  }
}

function parseBlock(block: string): StreamEvent {
  const event: StreamEvent = { event: "message", id: "", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const value = line.slice(colon + 1).replace(/^ /, "");
    const name = line.slice(0, colon);
    if (name === "data") event.data += event.data ? `\n${value}` : value;
    else if (name === "event" || name === "id") event[name] = value;
  }
  return event;
}

export interface Listener {
  event(event: StreamEvent): void;
  /** Whether events arrive now. */
  connected?(connected: boolean): void;
  /** The stream can never be had: it is not tried again. */
  refused?(problem: Problem): void;
}

/** Follow a stream until the returned function is called. */
export function follow(parts: readonly string[], query: Options["query"], listener: Listener): () => void {
  const ending = new AbortController();
  void keepFollowing(address(parts, query), listener, ending.signal);
  return () => ending.abort();
}

async function keepFollowing(url: URL, listener: Listener, ended: AbortSignal): Promise<void> {
  let lastId = "";
  let pause = FIRST_PAUSE_MILLISECONDS;
  while (!ended.aborted) {
    try {
      await readOnce(url, lastId, ended, {
        ...listener,
        event(event) {
          lastId = event.id || lastId;
          pause = FIRST_PAUSE_MILLISECONDS;
          listener.event(event);
        },
      });
    } catch (error) {
      if (ended.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) {
        listener.refused?.(error);
        return;
      }
      if (!(error instanceof Problem) && !isAbort(error) && !(error instanceof TypeError)) throw error;
    }
    if (ended.aborted) return;
    listener.connected?.(false);
    await wait(pause, ended);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MILLISECONDS);
  }
}

async function readOnce(url: URL, lastId: string, ended: AbortSignal, listener: Listener): Promise<void> {
  const silent = new AbortController();
  const signal = AbortSignal.any([ended, silent.signal]);
  let timer = setTimeout(() => silent.abort(), SILENCE_MILLISECONDS);
  try {
    const more: Record<string, string> = { Accept: "text/event-stream" };
    if (lastId) more["Last-Event-ID"] = lastId;
    const answer = await send(url, { headers: headers(more), signal, cache: "no-store" });
    listener.connected?.(true);
    const parser = new EventParser();
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE_MILLISECONDS);
      parser.push(value).forEach((event) => listener.event(event));
    }
  } finally {
    clearTimeout(timer);
  }
}

function wait(milliseconds: number, ended: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    ended.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
