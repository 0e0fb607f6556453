// What the API keeps of the queues, for the time that was chosen, and behind it what this page has seen since.
import { useEffect, useRef, useState } from "preact/hooks";
import { isAbort, request } from "../api/client";
import type { HistoryModel, ManyHistoriesModel } from "../api/types";
import { history as seen, type Point } from "./queues";
import { useReading, type Reading } from "./reading";

export const RANGES = { "15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h" } as const;
export type Range = keyof typeof RANGES;

const SECONDS: Record<Range, number> = { "15m": 900, "1h": 3600, "6h": 21_600, "24h": 86_400 };
// Of a sparkline: it is a hundred pixels wide.
const SPARK_STEPS: Record<Range, number> = { "15m": 10, "1h": 60, "6h": 600, "24h": 600 };
const REFRESH_SECONDS = 20;
const SETTLE_MILLISECONDS = 200;
const MOST_QUEUES = 100; // the API's bound of one request
const MOST_KEPT = 400;

export function parseRange(text: string | null): Range {
  return text !== null && text in RANGES ? (text as Range) : "15m";
}

function since(range: Range): string {
  return new Date(Date.now() - SECONDS[range] * 1000).toISOString();
}

export function useHistory(name: string, range: Range): Reading<HistoryModel> {
  return useReading(
    `${name} ${range}`,
    (signal) => request<HistoryModel>(["queues", name, "history"], { signal, query: { since: since(range) } }),
    REFRESH_SECONDS,
  );
}

/** Columns over time; null is unknown, and where nobody looked. */
export interface Columns {
  times: number[];
  ready: (number | null)[];
  running: (number | null)[];
  done: (number | null)[];
  failed: (number | null)[];
  arrivals: (number | null)[];
  workers: (number | null)[];
  wanted: (number | null)[];
}

/** The kept intervals, each at its end, then what was seen later. */
export function buildColumns(kept: HistoryModel | undefined, live: readonly Point[]): Columns {
  const columns: Columns = { times: [], ready: [], running: [], done: [], failed: [], arrivals: [], workers: [], wanted: [] };
  const add = (time: number, values: Partial<Record<keyof Columns, number | null | undefined>>) => {
    columns.times.push(time);
    for (const name of Object.keys(columns) as (keyof Columns)[]) if (name !== "times") columns[name].push(values[name] ?? null);
  };
  const step = kept?.step_seconds ?? 0;
  const now = Date.now() / 1000;
  let last = 0;
  for (const point of kept?.points ?? []) {
    const time = Math.min(now, Date.parse(point.at) / 1000 + step);
    if (last && time - last > 1.5 * step) add(last + step / 2, {});
    const [done, failed] = [point.finished, point.failed].map((number) => (number === null ? null : number / step));
    add(time, {
      ready: point.ready, running: point.running, done, failed, arrivals: point.arrivals_per_second,
      workers: point.workers, wanted: point.desired,
    });
    last = time;
  }
  for (const point of live) {
    if (point.at <= last) continue;
    add(point.at, { ...point, done: point.completions });
  }
  return columns;
}

export interface Sparks {
  /** What is done a second, the oldest first; null is unknown. */
  of(name: string): readonly (number | null)[];
}

interface Spark {
  /** End of the last interval in it. */
  end: number;
  done: readonly (number | null)[];
}

interface Kept {
  range: Range;
  sparks: Map<string, Spark>;
}

/** Sparklines of the queues in sight: one request for all of them, again every 20 s and for rows that come into sight. */
export function useSparks(names: readonly string[], range: Range): Sparks {
  const [kept, setKept] = useState<Kept>({ range, sparks: new Map() });
  const [turn, setTurn] = useState(0);
  const current = useRef({ names, kept });
  current.current = { names, kept };
  const sparks = kept.range === range ? kept.sparks : new Map<string, Spark>();
  const missing = names.find((name) => !sparks.has(name));

  useEffect(() => {
    const ending = new AbortController();
    const read = async () => {
      const wanted = current.current.names.slice(0, MOST_QUEUES);
      if (!document.hidden && wanted.length > 0) {
        try {
          const read = await fetchSparks(wanted, range, ending.signal);
          const before = current.current.kept;
          const isRoomy = before.range === range && before.sparks.size < MOST_KEPT;
          setKept({ range, sparks: new Map([...(isRoomy ? before.sparks : []), ...read]) });
        } catch (error) {
          if (isAbort(error)) return;
        }
      }
      if (!ending.signal.aborted) timer = setTimeout(() => setTurn((count) => count + 1), REFRESH_SECONDS * 1000);
    };
    let timer = setTimeout(() => void read(), sparks.size ? SETTLE_MILLISECONDS : 0);
    return () => (clearTimeout(timer), ending.abort());
  }, [range, turn, missing]);

  return {
    of(name) {
      const spark = sparks.get(name);
      return [...(spark?.done ?? []), ...binned(seen(name), spark?.end ?? 0, SPARK_STEPS[range])];
    },
  };
}

async function fetchSparks(names: readonly string[], range: Range, signal: AbortSignal): Promise<Map<string, Spark>> {
  const query = { queue: names, since: since(range), step_seconds: SPARK_STEPS[range] };
  const answer = await request<ManyHistoriesModel>(["queues:history"], { signal, query });
  const step = answer.step_seconds;
  const last = answer.at.at(-1);
  const end = last ? Date.parse(last) / 1000 + step : 0;
  const sparks = new Map<string, Spark>(names.map((name) => [name, { end: 0, done: [] }]));
  for (const item of answer.items) {
    sparks.set(item.queue, { end, done: item.finished.map((number) => (number === null ? null : number / step)) });
  }
  return sparks;
}

/** What the page has seen after `after`, as means over steps. */
function binned(points: readonly Point[], after: number, step: number): (number | null)[] {
  const bins = new Map<number, number[]>();
  for (const { at, completions } of points) {
    if (at <= after) continue;
    const bin = Math.floor(at / step);
    const values = bins.get(bin) ?? [];
    bins.set(bin, completions === null ? values : [...values, completions]);
  }
  return [...bins.values()].map((values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null));
}
