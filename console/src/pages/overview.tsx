// All queues, the busiest first: depth, expected wait, workers and why there are so many.
import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { QueueModel } from "../api/types";
import { count, duration, plural, rate, UNKNOWN } from "../format";
import { Empty, Failure, Figure, Loading, Sparkline } from "../parts/pieces";
import { RangeChoice } from "../parts/range";
import { Table, type Column, type Sorting } from "../parts/table";
import { useCell } from "../state/cell";
import { parseRange, useSparks, type Range, type Sparks } from "../state/history";
import { queues, refreshQueues } from "../state/queues";
import { go, href, route } from "../state/router";

/** How long the last task in the queue is expected to wait, where anybody can say. */
export function expectedWait(queue: QueueModel): number | null {
  if (queue.ready === 0) return 0;
  const wait = queue.decision?.terms["wait_seconds"];
  if (wait !== null && wait !== undefined && queue.consuming !== 0) return wait;
  const done = queue.completions_per_second;
  return queue.ready !== null && done ? queue.ready / done : null;
}

export function running(queue: QueueModel): number | null {
  return queue.unacknowledged ?? queue.busy;
}

const buildColumns = (sparks: Sparks): readonly Column<QueueModel>[] => [
  {
    id: "name", title: "Queue", width: "16%", sortable: true,
    draw: (queue) => (
      <span class="cut" title={queue.name}><a href={href(["queues", queue.name])}>{queue.name}</a></span>
    ),
  },
  { id: "namespace", title: "Namespace", width: "112px", sortable: true, from: "m", draw: (queue) => <span class="cut dim">{queue.namespace ?? UNKNOWN}</span> },
  { id: "waiting", title: "Waiting", width: "84px", numeric: true, sortable: true, draw: (queue) => <Strong value={queue.ready} /> },
  { id: "running", title: "Running", width: "84px", numeric: true, sortable: true, from: "s", draw: (queue) => count(running(queue)) },
  {
    id: "wait", title: "Wait", width: "84px", numeric: true, sortable: true, from: "s",
    hint: "Expected for the last task in the queue", draw: (queue) => duration(expectedWait(queue)),
  },
  { id: "in", title: "In /s", width: "62px", numeric: true, sortable: true, from: "m", draw: (queue) => rate(queue.arrivals_per_second) },
  { id: "out", title: "Done /s", width: "80px", numeric: true, sortable: true, from: "s", draw: (queue) => rate(queue.completions_per_second) },
  {
    id: "spark", title: "Throughput", width: "104px", from: "m", hint: "Done a second, over the time chosen above",
    draw: (queue) => <Sparkline values={sparks.of(queue.name)} />,
  },
  {
    id: "workers", title: "Workers", width: "92px", numeric: true, sortable: true, hint: "Ready of wanted",
    draw: (queue) => <Workers queue={queue} />,
  },
  {
    id: "dead", title: "Dead", width: "64px", numeric: true, sortable: true,
    draw: (queue) => {
      const dead = queue.records?.["dead"] ?? (queue.records ? 0 : null);
      return dead ? <a class="bad" href={href(["tasks"], { queue: queue.name, state: "dead" })}>{count(dead)}</a> : count(dead);
    },
  },
  {
    id: "reason", title: "Why so many workers", from: "l",
    draw: (queue) => <span class="cut dim" title={queue.decision?.reason}>{queue.decision?.reason ?? UNKNOWN}</span>,
  },
];

function Strong({ value }: { value: number | null }): JSX.Element {
  return value ? <b>{count(value)}</b> : <>{count(value)}</>;
}

export function Workers({ queue }: { queue: QueueModel }): JSX.Element {
  const wanted = queue.decision?.replicas;
  const short = wanted !== undefined && queue.consuming !== null && queue.consuming < wanted;
  return <span class={short ? "short" : ""}>{count(queue.consuming)}<span class="dim"> / {count(wanted)}</span></span>;
}

const VALUES: Record<string, (queue: QueueModel) => number | string | null> = {
  name: (queue) => queue.name,
  namespace: (queue) => queue.namespace,
  waiting: (queue) => queue.ready,
  running,
  wait: expectedWait,
  in: (queue) => queue.arrivals_per_second,
  out: (queue) => queue.completions_per_second,
  workers: (queue) => queue.consuming,
  dead: (queue) => queue.records?.["dead"] ?? 0,
};

function arrange(items: readonly QueueModel[], sorting: Sorting): readonly QueueModel[] {
  const value = VALUES[sorting.column] ?? VALUES["name"]!;
  const sign = sorting.descending ? -1 : 1;
  return items.toSorted((left, right) => {
    const [a, b] = [value(left), value(right)];
    if (a === b) return left.name < right.name ? -1 : 1;
    if (a === null) return 1;
    if (b === null) return -1;
    return a < b ? -sign : sign;
  });
}

export function Overview(): JSX.Element {
  const { items, loaded, problem } = useCell(queues);
  const { query } = useCell(route);
  const [typed, type] = useState(query.get("q") ?? "");
  const sorting = { column: query.get("sort") ?? "name", descending: query.get("order") === "desc" };
  const active = query.get("active") === "1";
  const shown = useMemo(() => {
    const wanted = typed.trim().toLowerCase();
    const matches = items.filter((queue) =>
      `${queue.namespace ?? ""}/${queue.name}`.toLowerCase().includes(wanted) && (!active || isActive(queue)));
    return arrange(matches, sorting);
  }, [items, typed, active, sorting.column, sorting.descending]);

  const range = parseRange(query.get("range"));
  const [sight, setSight] = useState({ first: 0, last: 40 });
  const sparks = useSparks(shown.slice(sight.first, sight.last).map((queue) => queue.name), range);

  const change = (changes: Record<string, string>) => {
    const next = new URLSearchParams(query);
    for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
    go(href([], next), true);
  };
  const sort = (column: string) => {
    const descending = sorting.column === column ? !sorting.descending : column !== "name" && column !== "namespace";
    change({ sort: column === "name" && !descending ? "" : column, order: descending ? "desc" : "" });
  };

  if (!loaded && problem) return <Failure page error={problem} retry={refreshQueues} />;
  if (!loaded) return <Loading />;
  if (!items.length) return <NoQueues />;
  return (
    <div class="page full">
      <div class="head">
        <h1>Queues</h1>
        <Totals items={items} />
      </div>
      <Filters
        typed={typed} type={(text) => (type(text), change({ q: text }))} active={active} range={range} change={change}
        note={shown.length === items.length ? plural(items.length, "queue") : `${shown.length} of ${plural(items.length, "queue")}`}
      />
      <Table
        label="Queues" rows={shown} columns={buildColumns(sparks)} see={(first, last) => setSight({ first, last })} keyOf={(queue) => queue.name} sorting={sorting} sort={sort}
        open={(queue) => go(href(["queues", queue.name]))}
        after={shown.length === 0 && <Empty title="No queue matches"><p>Change the filter above.</p></Empty>}
      />
    </div>
  );
}

interface FiltersProps {
  typed: string;
  type(text: string): void;
  active: boolean;
  range: Range;
  /** Changes the address; empty takes a part out. */
  change(changes: Record<string, string>): void;
  note: string;
}

function Filters({ typed, type, active, range, change, note }: FiltersProps): JSX.Element {
  return (
    <div class="filters">
      <input
        type="search" data-filter aria-label="Filter queues" placeholder="Filter by name or namespace  ( / )" value={typed}
        onInput={(event) => type(event.currentTarget.value)}
      />
      <label class="check">
        <input type="checkbox" checked={active} onChange={() => change({ active: active ? "" : "1" })} /> only with work or workers
      </label>
      <span class="fill" />
      <span class="from-m"><RangeChoice range={range} choose={(next) => change({ range: next === "15m" ? "" : next })} /></span>
      <span class="note">{note}</span>
    </div>
  );
}

function isActive(queue: QueueModel): boolean {
  return Boolean(queue.ready || running(queue) || queue.workers || queue.records?.["dead"]);
}

function Totals({ items }: { items: readonly QueueModel[] }): JSX.Element {
  const sum = (value: (queue: QueueModel) => number | null | undefined) => {
    const known = items.map(value).filter((number) => number !== null && number !== undefined);
    return known.length ? known.reduce((total, number) => total + number, 0) : null;
  };
  const dead = sum((queue) => queue.records?.["dead"]);
  return (
    <dl class="figures">
      <Figure name="Waiting" value={count(sum((queue) => queue.ready))} />
      <Figure name="Running" value={count(sum(running))} />
      <Figure name="Done" value={rate(sum((queue) => queue.completions_per_second))} note="/s" />
      <Figure name="Workers" value={count(sum((queue) => queue.consuming))} note={`of ${count(sum((queue) => queue.decision?.replicas))}`} />
      <Figure name="Dead" value={count(dead ?? 0)} {...(dead ? { tone: "bad" } : {})} />
    </dl>
  );
}

function NoQueues(): JSX.Element {
  return (
    <Empty page title="There is no queue yet">
      <p>Apply a TaskQueue, or start local mode with one:</p>
      <pre>kubectl apply -f taskqueue.yaml{"\n"}taskfleet up -f taskqueue.yaml</pre>
      <p>It appears here within seconds.</p>
    </Empty>
  );
}
