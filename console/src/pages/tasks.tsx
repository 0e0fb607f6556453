// Tasks, newest first: filters in the address, live, thousands of rows, and many retried or cancelled at once.
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { describe, request } from "../api/client";
import type { TaskListItem } from "../api/types";
import { count, duration, moment, plural, seconds, UNKNOWN } from "../format";
import { confirm, tell } from "../parts/dialogs";
import { Empty, Failure, FINAL, Loading, RETRYABLE, State, STATES } from "../parts/pieces";
import { Table, type Column } from "../parts/table";
import { useCell } from "../state/cell";
import { queues } from "../state/queues";
import { go, href, route } from "../state/router";
import { useTaskList, type Query } from "../state/tasklist";

const FILTERS = ["queue", "state", "task", "metadata", "created_after", "created_before"] as const;
const SUMMARY_CHARACTERS = 120;
const AT_ONCE = 6;

const COLUMNS: readonly Column<TaskListItem>[] = [
  { id: "state", title: "State", width: "112px", draw: (task) => <State state={task.state} /> },
  {
    id: "task", title: "Task", width: "24%",
    draw: (task) => <span class="cut" title={task.id}><a href={href(["tasks", task.id])}>{task.task}</a></span>,
  },
  { id: "args", title: "Arguments", from: "m", draw: (task) => <span class="cut dim mono">{summarise(task)}</span> },
  {
    id: "queue", title: "Queue", width: "128px", from: "s",
    draw: (task) => <span class="cut"><a class="plain" href={href(["queues", task.queue])}>{task.queue}</a></span>,
  },
  { id: "created", title: "Created", width: "124px", numeric: true, draw: (task) => moment(task.created_at) },
  { id: "waited", title: "Waited", width: "88px", numeric: true, from: "l", draw: (task) => duration(waited(task)) },
  { id: "ran", title: "Ran", width: "88px", numeric: true, from: "s", draw: (task) => duration(task.runtime_seconds) },
  { id: "attempt", title: "Attempt", width: "80px", numeric: true, from: "l", draw: (task) => (task.max_attempts > 1 || task.attempt > 1 ? `${task.attempt} of ${Math.max(task.attempt, task.max_attempts)}` : String(task.attempt)) },
  { id: "worker", title: "Worker", width: "150px", from: "l", draw: (task) => <span class="cut dim">{task.worker ?? UNKNOWN}</span> },
];

function waited(task: TaskListItem): number | null {
  const [from, to] = [seconds(task.created_at), seconds(task.started_at)];
  return from !== null && to !== null ? Math.max(0, to - from) : null;
}

function summarise(task: TaskListItem): string {
  const named = Object.entries(task.kwargs ?? {}).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return [...(task.args ?? []).map((value) => JSON.stringify(value)), ...named].join(", ").slice(0, SUMMARY_CHARACTERS);
}

export function TasksPage(): JSX.Element {
  const { query } = useCell(route);
  const wanted = useMemo(() => readFilters(query), [query.toString()]);
  const list = useTaskList(wanted);
  const [selected, select] = useState<ReadonlySet<string>>(new Set());
  useEffect(() => select(new Set()), [query.toString()]);
  const toggle = (id: string) => {
    const next = new Set(selected);
    if (!next.delete(id)) next.add(id);
    select(next);
  };
  const chosen = list.rows.filter((task) => selected.has(task.id));
  const hasFilters = Object.keys(wanted).length > 0;
  return (
    <div class="page full">
      <div class="head"><h1>Tasks</h1><States wanted={wanted} /></div>
      <Filters wanted={wanted} />
      <div class="filters line">
        {chosen.length > 0
          ? <Bulk tasks={chosen} clear={() => select(new Set())} done={list.restart} />
          : <span class="note">{list.loaded ? `${plural(list.rows.length, "task")}${list.complete ? "" : " so far, more below"}` : "Reading…"}</span>}
        {list.rows.length > 0 && chosen.length < list.rows.length && (
          <button type="button" class="quiet" onClick={() => select(new Set(list.rows.map((task) => task.id)))}>Select all {count(list.rows.length)}</button>
        )}
        <span class="fill" />
        {list.fresh.length > 0 && (
          <button type="button" class="primary" onClick={() => { list.showFresh(); document.querySelector(".scroller")!.scrollTop = 0; }}>
            {plural(list.fresh.length, "new task")} above
          </button>
        )}
      </div>
      {list.error !== undefined && !list.loaded ? <Failure error={list.error} retry={list.restart} />
        : !list.loaded ? <Loading />
        : (
          <Table
            label="Tasks" rows={list.rows} columns={COLUMNS} keyOf={(task) => task.id} open={(task) => go(href(["tasks", task.id]))}
            selected={selected} toggle={toggle} reachEnd={list.more} see={list.see}
            after={list.rows.length === 0 && (
              <Empty title={hasFilters ? "No task matches" : "There is no task yet"}>
                <p>{hasFilters ? "Change the filters above. New tasks that match appear here." : "Submit one: a queue's page has a form."}</p>
              </Empty>
            )}
          />
        )}
    </div>
  );
}

function readFilters(query: URLSearchParams): Query {
  const wanted: Query = {};
  for (const name of FILTERS) {
    const values = query.getAll(name).filter(Boolean);
    if (values.length) wanted[name] = values.length === 1 ? values[0]! : values;
  }
  return wanted;
}

function change(wanted: Query, name: string, values: readonly string[]): void {
  const next = new URLSearchParams();
  for (const [other, value] of Object.entries({ ...wanted, [name]: [...values] }))
    for (const item of typeof value === "string" ? [value] : value) if (item) next.append(other, item);
  go(href(["tasks"], next), true);
}

function listOf(value: string | string[] | undefined): string[] {
  return value === undefined ? [] : typeof value === "string" ? [value] : value;
}

function States({ wanted }: { wanted: Query }): JSX.Element {
  const chosen = listOf(wanted["state"]);
  return (
    <div class="chips" role="group" aria-label="States">
      {STATES.map((state) => (
        <button
          key={state} type="button" class="chip" aria-pressed={chosen.includes(state)}
          onClick={() => change(wanted, "state", chosen.includes(state) ? chosen.filter((other) => other !== state) : [...chosen, state])}
        ><State state={state} /></button>
      ))}
    </div>
  );
}

function Filters({ wanted }: { wanted: Query }): JSX.Element {
  const { items } = useCell(queues);
  return (
    <div class="filters">
      <Text wanted={wanted} name="queue" label="Queue" list="queue-names" first />
      <datalist id="queue-names">{items.map((queue) => <option key={queue.name} value={queue.name} />)}</datalist>
      <Text wanted={wanted} name="task" label="Task name" />
      <Text wanted={wanted} name="metadata" label="Metadata key=value" pattern="[^=]+=.*" />
      <span class="between" role="group" aria-label="Created">
        <Moment wanted={wanted} name="created_after" label="Created from" />
        <span aria-hidden="true">to</span>
        <Moment wanted={wanted} name="created_before" label="Created before" />
      </span>
      {Object.keys(wanted).length > 0 && <a class="note" href={href(["tasks"])}>Clear filters</a>}
    </div>
  );
}

interface FieldProps {
  wanted: Query;
  name: string;
  label: string;
}

/** Takes effect when it is left or Enter is pressed: half a name matches nothing. */
function Text({ wanted, name, label, list, pattern, first }: FieldProps & { list?: string; pattern?: string; first?: boolean }): JSX.Element {
  const value = listOf(wanted[name])[0] ?? "";
  return (
    <input
      key={value} type="search" class="short-field" aria-label={label} placeholder={label} defaultValue={value} list={list} pattern={pattern}
      data-filter={first} onChange={(event) => event.currentTarget.reportValidity() && change(wanted, name, [event.currentTarget.value.trim()])}
    />
  );
}

function Moment({ wanted, name, label }: FieldProps): JSX.Element {
  const value = listOf(wanted[name])[0];
  const date = value ? new Date(value) : null;
  const local = date && !Number.isNaN(date.valueOf()) ? new Date(date.valueOf() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16) : "";
  const set = (text: string) => change(wanted, name, [text ? new Date(text).toISOString() : ""]);
  return <input key={local} type="datetime-local" aria-label={label} title={label} defaultValue={local} onChange={(event) => set(event.currentTarget.value)} />;
}

function Bulk({ tasks, clear, done }: { tasks: readonly TaskListItem[]; clear: () => void; done: () => void }): JSX.Element {
  const [progress, setProgress] = useState<string | null>(null);
  const retryable = tasks.filter((task) => RETRYABLE.has(task.state));
  const open = tasks.filter((task) => !FINAL.has(task.state));
  const run = async (verb: string, chosen: readonly TaskListItem[], act: (task: TaskListItem) => Promise<unknown>) => {
    const problems = await actOnAll(chosen, act, (number) => setProgress(`${verb} ${number} of ${chosen.length}`));
    setProgress(null);
    const good = chosen.length - problems.length;
    if (good) tell(`${plural(good, "task")} ${verb}.`);
    if (problems.length) tell(`${plural(problems.length, "task")} not ${verb}: ${describe(problems[0])}`, true);
    clear();
    done();
  };
  const retry = async () => {
    if (await confirm("Retry these tasks?", `${plural(retryable.length, "task")} will start a new attempt.`, "Retry", false))
      await run("retried", retryable, (task) => request(["tasks", `${task.id}:retry`], { method: "POST" }));
  };
  const cancel = async () => {
    const runs = open.filter((task) => task.state === "running").length;
    const text = `${plural(open.length, "task")} will be cancelled${runs ? `; ${runs} of them run now and will be stopped` : ""}.`;
    if (await confirm("Cancel these tasks?", text, "Cancel them"))
      await run("cancelled", open, (task) => request(["tasks", task.id], { method: "DELETE", query: { terminate: "true" } }));
  };
  if (progress) return <span role="status">{progress}</span>;
  return (
    <>
      <b>{count(tasks.length)} selected</b>
      <button type="button" disabled={!retryable.length} onClick={retry}>Retry {count(retryable.length)}</button>
      <button type="button" disabled={!open.length} onClick={cancel}>Cancel {count(open.length)}</button>
      <button type="button" class="quiet" onClick={clear}>Clear selection</button>
    </>
  );
}

async function actOnAll(
  tasks: readonly TaskListItem[], act: (task: TaskListItem) => Promise<unknown>, tellProgress: (done: number) => void,
): Promise<unknown[]> {
  const waiting = [...tasks];
  const problems: unknown[] = [];
  const work = async () => {
    for (let task = waiting.pop(); task; task = waiting.pop()) {
      await act(task).catch((error: unknown) => problems.push(error));
      tellProgress(tasks.length - waiting.length);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return problems;
}
