// The tasks that match the filters: pages by cursor, what is new at the top, and changes of the rows in sight.
// The top comes by a stream of the listing; while there is none, by a look every two seconds.
import { useEffect, useRef, useState, type Dispatch, type StateUpdater } from "preact/hooks";
import { isAbort, request } from "../api/client";
import { follow } from "../api/stream";
import type { TaskListItem, TaskPage } from "../api/types";
import { FINAL } from "../parts/pieces";

const FIRST_ROWS = 100;
const MORE_ROWS = 500; // the most that the API gives at once
const HEAD_ROWS = 100;
const HEAD_MILLISECONDS = 2_000;
const MOST_FOLLOWED = 100; // the API's bound of one stream
const SETTLE_MILLISECONDS = 300;

export type Query = Record<string, string | string[]>;

export interface TaskList {
  rows: readonly TaskListItem[];
  /** New tasks that are not among the rows, because these are scrolled. */
  fresh: readonly TaskListItem[];
  loaded: boolean;
  complete: boolean;
  error: unknown;
  more(): void;
  see(first: number, last: number): void;
  showFresh(): void;
  restart(): void;
}

interface State {
  rows: readonly TaskListItem[];
  fresh: readonly TaskListItem[];
  /** Between `fresh` and `rows` are tasks that nobody told. */
  hasGap: boolean;
  cursor: string | null;
  loaded: boolean;
  error: unknown;
}

const START: State = { rows: [], fresh: [], hasGap: false, cursor: null, loaded: false, error: undefined };

export function useTaskList(query: Query): TaskList {
  const [state, setState] = useState<State>(START);
  const [turn, setTurn] = useState(0);
  const key = `${turn} ${JSON.stringify(query)}`;
  const seen = useRef({ first: 0, last: 50 });
  const isSeen = useVisible();
  const restart = () => setTurn((count) => count + 1);

  const load = usePages(query, key, setState);
  useHead(query, key, state.loaded, isSeen, (told, cursor) =>
    setState((before) => takeHead(before, told, cursor, seen.current.first === 0)));
  const open = useOpenIds(state.rows, seen);
  useFollowing(isSeen ? open : "", (changes) =>
    setState((before) => ({ ...before, rows: before.rows.map((row) => (changes.has(row.id) ? { ...row, ...changes.get(row.id) } : row)) })));

  return {
    rows: state.rows,
    fresh: state.fresh,
    loaded: state.loaded,
    complete: state.loaded && state.cursor === null,
    error: state.error,
    more: () => load(state.cursor),
    see: (first, last) => (seen.current = { first, last }),
    showFresh: () => (state.hasGap ? restart() : setState((before) => ({ ...before, rows: [...before.fresh, ...before.rows], fresh: [] }))),
    restart,
  };
}

/** Loads the first page, again when `key` changes; the function that is returned loads what is behind a cursor. */
function usePages(query: Query, key: string, setState: Dispatch<StateUpdater<State>>): (cursor: string | null) => void {
  const loading = useRef<AbortController | null>(null);
  const load = async (cursor: string | null) => {
    loading.current?.abort();
    const ending = (loading.current = new AbortController());
    try {
      const page = await fetchPage(query, cursor ? MORE_ROWS : FIRST_ROWS, cursor, ending.signal);
      setState((before) => ({
        ...before,
        rows: cursor ? append(before.rows, page.items) : page.items,
        cursor: page.next_cursor,
        loaded: true,
        error: undefined,
      }));
    } catch (error) {
      if (!isAbort(error)) setState((before) => ({ ...before, error }));
    } finally {
      if (loading.current === ending) loading.current = null;
    }
  };

  useEffect(() => {
    setState(START);
    void load(null);
    return () => loading.current?.abort();
  }, [key]);
  return (cursor) => void (cursor && !loading.current && load(cursor));
}

type Take = (told: readonly TaskListItem[], cursor: string | null | undefined) => void;

/** Gives what is at the top: by a stream while the page is seen, else by looking. Once the first page is there. */
function useHead(query: Query, key: string, loaded: boolean, isSeen: boolean, take: Take): void {
  const [streamed, setStreamed] = useState(false);
  useEffect(() => {
    if (!loaded || !isSeen) return;
    const stop = follow(["tasks:stream"], query, {
      connected: setStreamed,
      refused: () => setStreamed(false),
      event({ event, data }) {
        const told = JSON.parse(data) as { items: TaskListItem[]; next_cursor?: string | null };
        take(told.items, event === "page" ? (told.next_cursor ?? null) : undefined);
      },
    });
    return () => (stop(), setStreamed(false));
  }, [key, loaded, isSeen]);
  useEffect(() => {
    if (!loaded || streamed) return;
    const ending = new AbortController();
    let timer: ReturnType<typeof setTimeout>;
    const look = async () => {
      try {
        const page = document.hidden ? null : await fetchPage(query, HEAD_ROWS, null, ending.signal);
        if (page) take(page.items, page.next_cursor);
      } catch {
        // The outage is told above; the next look may find the API again.
      }
      if (!ending.signal.aborted) timer = setTimeout(look, HEAD_MILLISECONDS);
    };
    timer = setTimeout(look, HEAD_MILLISECONDS);
    return () => (clearTimeout(timer), ending.abort());
  }, [key, loaded, streamed]);
}

/** Ids of the rows in sight that are not final, in one text; it changes only for rows that are not in it yet. */
function useOpenIds(rows: readonly TaskListItem[], seen: { current: { first: number; last: number } }): string {
  const [ids, setIds] = useState("");
  useEffect(() => {
    // A stream is opened anew only for rows that none follows yet.
    const timer = setTimeout(() => {
      const { first, last } = seen.current;
      const open = rows.slice(first, last).filter((row) => !FINAL.has(row.state));
      const wanted = open.slice(0, MOST_FOLLOWED).map((row) => row.id);
      const followed = new Set(ids.split(" "));
      if (!wanted.length || wanted.some((id) => !followed.has(id))) setIds(wanted.join(" "));
    }, SETTLE_MILLISECONDS);
    return () => clearTimeout(timer);
  });
  return ids;
}

function fetchPage(query: Query, limit: number, cursor: string | null, signal: AbortSignal): Promise<TaskPage> {
  return request<TaskPage>(["tasks"], { signal, query: { ...query, limit, ...(cursor ? { cursor } : {}) } });
}

function append(rows: readonly TaskListItem[], more: readonly TaskListItem[]): TaskListItem[] {
  const known = new Set(rows.map((row) => row.id));
  return [...rows, ...more.filter((row) => !known.has(row.id))];
}

/**
 * What was told of the top laid over what is shown. `cursor`: of a whole page what comes behind it (null: nothing);
 * undefined: only what came or changed was told.
 */
function takeHead(before: State, told: readonly TaskListItem[], cursor: string | null | undefined, isAtTop: boolean): State {
  const newest = new Map(told.map((row) => [row.id, row]));
  const rows = before.rows.map((row) => newest.get(row.id) ?? row);
  rows.forEach((row) => newest.delete(row.id));
  // So many came that those in between are not known: begin again at the top.
  const hasGap = cursor !== undefined && cursor !== null && newest.size === told.length && rows.length > 0;
  if (isAtTop && hasGap) return { ...before, rows: told, cursor, fresh: [], hasGap: false };
  const waiting = before.fresh.map((row) => newest.get(row.id) ?? row);
  waiting.forEach((row) => newest.delete(row.id));
  const fresh = sorted([...newest.values(), ...(hasGap ? [] : waiting)]);
  if (isAtTop) return { ...before, rows: fresh.length ? sorted([...fresh, ...rows]) : rows, fresh: [], hasGap: false };
  return { ...before, rows, fresh, hasGap: before.hasGap || hasGap };
}

/** Newest first, as the API lists them: a task that came to match the filter may be older than others. */
function sorted(rows: readonly TaskListItem[]): readonly TaskListItem[] {
  const isInOrder = rows.every((row, index) => index === 0 || compare(rows[index - 1]!, row) <= 0);
  return isInOrder ? rows : rows.toSorted(compare);
}

function compare(left: TaskListItem, right: TaskListItem): number {
  if (left.created_at !== right.created_at) return left.created_at < right.created_at ? 1 : -1;
  return left.id < right.id ? 1 : left.id > right.id ? -1 : 0;
}

/** Whether the page is seen: streams of hidden ones would take the few connections that a browser opens to one host. */
function useVisible(): boolean {
  const [visible, setVisible] = useState(!document.hidden);
  useEffect(() => {
    const change = () => setVisible(!document.hidden);
    document.addEventListener("visibilitychange", change);
    return () => document.removeEventListener("visibilitychange", change);
  }, []);
  return visible;
}

type Changes = Map<string, Partial<TaskListItem>>;

/** Follows these ids; changes come together, at most once a frame. */
function useFollowing(ids: string, apply: (changes: Changes) => void): void {
  const latest = useRef(apply);
  latest.current = apply;
  useEffect(() => {
    if (!ids) return;
    let changes: Changes = new Map();
    let frame = 0;
    const flush = () => {
      frame = 0;
      latest.current(changes);
      changes = new Map();
    };
    const stop = follow(["tasks:events"], { id: ids.split(" ") }, {
      event({ data }) {
        const { id, kind: _kind, queue: _queue, task: _task, at: _at, ...members } = JSON.parse(data) as TaskListItem & Record<string, unknown>;
        changes.set(id, { ...changes.get(id), ...members });
        frame ||= requestAnimationFrame(flush);
      },
    });
    return () => (stop(), cancelAnimationFrame(frame));
  }, [ids]);
}
