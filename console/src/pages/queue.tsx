// One queue: its figures over time, why it has its workers, what they do, its dead tasks, and a form to submit one.
import type { JSX } from "preact";
import { describe, request } from "../api/client";
import type { HistoryModel, PurgeAnswer, QueueModel, RedriveAnswer, ScalingModel, TaskNameList, TaskPage, WorkerList, WorkerModel } from "../api/types";
import { ago, count, duration, moment, plural, rate, UNKNOWN } from "../format";
import { Chart, type Mark } from "../parts/chart";
import { confirm, tell } from "../parts/dialogs";
import { Empty, Failure, Figure, Loading, Panel, State } from "../parts/pieces";
import { RangeChoice } from "../parts/range";
import { SubmitForm } from "../parts/submit";
import { useCell } from "../state/cell";
import { buildColumns, parseRange, useHistory, type Range } from "../state/history";
import { findQueue, history, queues, refreshQueues } from "../state/queues";
import { useReading } from "../state/reading";
import { go, href, route } from "../state/router";
import { expectedWait, running } from "./overview";

export function QueuePage({ name }: { name: string }): JSX.Element {
  const { loaded, problem } = useCell(queues);
  const range = parseRange(useCell(route).query.get("range"));
  const kept = useHistory(name, range);
  const queue = findQueue(name);
  if (!queue && !loaded) return problem ? <Failure page error={problem} retry={refreshQueues} /> : <Loading />;
  if (!queue)
    return <Empty page title="There is no such queue"><p>Nobody announces a queue named “{name}” that you may see.</p><p><a href={href([])}>All queues</a></p></Empty>;
  return (
    <div class="page">
      <div class="head">
        <div class="crumbs"><a href={href([])}>Queues</a><span class="sep">/</span><h1>{name}</h1>{queue.namespace && <small>{queue.namespace}</small>}</div>
        <span class="fill" />
        <a class="button" href={href(["tasks"], { queue: name })}>Its tasks</a>
      </div>
      <Figures queue={queue} />
      {queue.degradations.map((item) => <p key={item["feature"]} class="notice">{item["feature"]}: {item["detail"]}</p>)}
      {queue.scale_only && <p class="notice">This queue lies on another broker ({queue.broker}): it is scaled from here, and tasks are submitted elsewhere.</p>}
      <Charts name={name} range={range} kept={kept.value} />
      <div class="cols">
        <div><Scaling name={name} kept={kept.value} /><Workers name={name} /></div>
        <div>{!queue.scale_only && <Submit name={name} />}<Dead queue={queue} /></div>
      </div>
    </div>
  );
}

function Figures({ queue }: { queue: QueueModel }): JSX.Element {
  const target = queue.limits["targetWaitSeconds"];
  const dead = queue.records?.["dead"] ?? 0;
  return (
    <dl class="figures panel body">
      <Figure name="Waiting" value={count(queue.ready)} />
      <Figure name="Running" value={count(running(queue))} note={queue.slots ? `of ${plural(queue.slots, "slot")}` : undefined} />
      <Figure name="Expected wait" value={duration(expectedWait(queue))} note={typeof target === "number" ? `target ${duration(target)}` : undefined} />
      <Figure name="In" value={rate(queue.arrivals_per_second)} note="/s" />
      <Figure name="Done" value={rate(queue.completions_per_second)} note="/s" />
      <Figure name="Workers ready" value={count(queue.consuming)} note={`of ${count(queue.decision?.replicas)} wanted`} />
      <Figure name="Scheduled" value={count(queue.records ? (queue.records["scheduled"] ?? 0) : null)} />
      <Figure name="Dead" value={count(queue.records ? dead : null)} {...(dead ? { tone: "bad" } : {})} />
    </dl>
  );
}

function Charts({ name, range, kept }: { name: string; range: Range; kept: HistoryModel | undefined }): JSX.Element {
  const live = history(name);
  const columns = buildColumns(kept, live);
  const { times } = columns;
  const points = kept?.points ?? [];
  const ends = points.map((point) => Date.parse(point.at) / 1000 + (kept?.step_seconds ?? 0));
  const choose = (next: Range) => go(href(["queues", name], next === "15m" ? {} : { range: next }), true);
  return (
    <Panel title="Now and before" actions={<RangeChoice range={range} choose={choose} />}>
      <div class="grid charts">
        <Chart
          label="Tasks" times={times} format={count} lines={[{ name: "waiting", colour: "accent" }, { name: "running", colour: "good" }]}
          values={[columns.ready, columns.running]}
        />
        <Chart
          label="A second" times={times} format={rate} values={[columns.done, columns.arrivals, columns.failed]}
          lines={[{ name: "done", colour: "good" }, { name: "in", colour: "calm", dashed: true }, { name: "failed", colour: "bad", sparse: true }]}
        />
        <Chart
          label="Workers" stepped times={times} format={count} lines={[{ name: "ready", colour: "accent" }, { name: "wanted", colour: "warn", dashed: true }]}
          values={[columns.workers, columns.wanted]} marks={buildMarks(kept)}
        />
        <Chart
          label="Waits" times={ends} format={duration}
          lines={[{ name: "half of the tasks", colour: "accent", sparse: true }, { name: "95 of 100", colour: "warn", sparse: true }, { name: "oldest at the broker", colour: "calm", dashed: true }]}
          values={[points.map((point) => point.wait_p50_seconds), points.map((point) => point.wait_p95_seconds), points.map((point) => point.oldest_wait_seconds)]}
        />
      </div>
    </Panel>
  );
}

function buildMarks(kept: HistoryModel | undefined): readonly Mark[] {
  return (kept?.decisions ?? []).map((change) => ({
    at: Date.parse(change.at) / 1000,
    title: `${moment(change.at)}  ${change.before} → ${change.replicas}`,
    text: change.reason ?? "the reason was not kept",
  }));
}

const SHOWN_CHANGES = 5;

/** The last changes in words: what the marks in the chart say where one points at them. */
function Changes({ kept }: { kept: HistoryModel | undefined }): JSX.Element | null {
  const changes = kept?.decisions.slice(-SHOWN_CHANGES).reverse() ?? [];
  if (!changes.length) return null;
  return (
    <ol class="changes" aria-label="Last changes">
      {changes.map((change) => (
        <li key={change.at}>
          <span class="dim">{moment(change.at)}</span>
          <b>{change.before} → {change.replicas}</b>
          <span>{change.reason ?? UNKNOWN}</span>
        </li>
      ))}
    </ol>
  );
}

function Scaling({ name, kept }: { name: string; kept: HistoryModel | undefined }): JSX.Element {
  const { value, error, refresh } = useReading(name, (signal) => request<ScalingModel>(["queues", name, "scaling"], { signal }), 3);
  const decision = value?.decision;
  const now = Date.now() / 1000;
  return (
    <Panel title="Why so many workers" note={decision && `${plural(decision.replicas, "worker")} wanted · decided ${ago(decision.decided_at, now)}`}>
      {error !== undefined && !value ? <Failure error={error} retry={refresh} />
        : !value ? <Loading />
        : !decision ? <Empty title="Nothing decided yet"><p>The operator, or local mode, decides once it has seen the queue.</p></Empty>
        : (
          <div class="body">
            <p><b>{decision.reason}</b>{!decision.acting && <span class="warn"> (reported only)</span>}</p>
            <ol class="steps dim">{value.steps.map((step) => <li key={step}>{step}</li>)}</ol>
            <Changes kept={kept} />
          </div>
        )}
    </Panel>
  );
}

function Workers({ name }: { name: string }): JSX.Element {
  const { value, error, refresh } = useReading(name, (signal) => request<WorkerList>(["queues", name, "workers"], { signal }), 2);
  const workers = value?.items;
  return (
    <Panel title="Workers" note={workers && plural(workers.length, "worker")}>
      {error !== undefined && !value ? <Failure error={error} retry={refresh} />
        : !value ? <Loading />
        : workers === null || workers === undefined ? <Empty title="Unknown"><p>Heartbeats cannot be read now.</p></Empty>
        : !workers.length ? <Empty title="No workers"><p>They come with the first task and go when there is nothing to do.</p></Empty>
        : (
          <div class="wide limited" tabIndex={0} role="region" aria-label="List of workers">
            <table>
              <thead><tr><th scope="col">Name</th><th scope="col">Busy slots</th><th scope="col" class="numeric">Done</th><th scope="col" class="numeric">Failed</th><th scope="col">Up</th></tr></thead>
              <tbody>{workers.map((worker) => <WorkerRow key={worker.name} worker={worker} />)}</tbody>
            </table>
          </div>
        )}
    </Panel>
  );
}

function WorkerRow({ worker }: { worker: WorkerModel }): JSX.Element {
  const now = Date.now() / 1000;
  const share = worker.slots ? Math.min(100, (100 * worker.busy) / worker.slots) : 0;
  return (
    <tr title={`Celery ${worker.celery ?? "?"}, Python ${worker.python ?? "?"}, ${worker.pool ?? "?"} pool`}>
      <td>{worker.name}{!worker.consuming && <> <span class="state s-draining">draining</span></>}</td>
      <td><span class="meter" aria-hidden="true"><span style={{ width: `${share}%` }} /></span>{worker.busy} of {worker.slots}</td>
      <td class="numeric">{count(worker.completed)}</td>
      <td class="numeric">{worker.failed ? <span class="bad">{count(worker.failed)}</span> : "0"}</td>
      <td class="dim">{worker.started_at ? duration(now - Date.parse(worker.started_at) / 1000) : UNKNOWN}</td>
    </tr>
  );
}

const SHOWN_DEAD = 6;

function Dead({ queue }: { queue: QueueModel }): JSX.Element {
  const { name } = queue;
  const total = queue.records?.["dead"] ?? 0;
  const { value, error, refresh } = useReading(
    `${name} ${total}`,
    (signal) => request<TaskPage>(["tasks"], { signal, query: { queue: name, state: "dead", limit: SHOWN_DEAD } }),
  );
  const act = async (verb: "redrive" | "purge") => {
    const question = verb === "redrive"
      ? confirm("Run dead tasks again?", `${plural(total, "dead task")} of ${name} will start a new attempt.`, "Run again", false)
      : confirm("Delete dead tasks?", `${plural(total, "dead task")} of ${name} will be deleted for good.`, "Delete");
    if (!(await question)) return;
    try {
      const answer = await request<RedriveAnswer & PurgeAnswer>(["queues", name, `dead:${verb}`], { method: "POST" });
      tell(verb === "redrive" ? `${plural(answer.redriven, "task")} started again${answer.more ? "; there are more" : ""}.` : `${plural(answer.purged, "task")} deleted.`);
    } catch (problem) {
      tell(describe(problem), true);
    }
    refreshQueues();
    refresh();
  };
  const actions = total > 0 && (
    <>
      <button type="button" onClick={() => act("redrive")}>Redrive all</button>
      <button type="button" class="danger" onClick={() => act("purge")}>Purge</button>
    </>
  );
  return (
    <Panel title="Dead letters" note={queue.records ? plural(total, "task") : "unknown"} actions={actions}>
      {error !== undefined && !value ? <Failure error={error} retry={refresh} />
        : !value ? <Loading />
        : !value.items.length ? <Empty title="None"><p>A task is dead when it took its worker with it once too often.</p></Empty>
        : <DeadTasks name={name} total={total} items={value.items} />}
    </Panel>
  );
}

function DeadTasks({ name, total, items }: { name: string; total: number; items: TaskPage["items"] }): JSX.Element {
  return (
    <div class="wide" tabIndex={0} role="region" aria-label="The last dead tasks">
      <table>
        <thead><tr><th scope="col">Task</th><th scope="col">Ended</th><th scope="col">Why</th></tr></thead>
        <tbody>
          {items.map((task) => (
            <tr key={task.id}>
              <td><a href={href(["tasks", task.id])}>{task.task}</a></td>
              <td class="dim">{moment(task.finished_at)}</td>
              <td class="grow"><span class="cut">{(task.error as { message?: string } | null)?.message ?? <State state={task.state} />}</span></td>
            </tr>
          ))}
        </tbody>
      </table>
      {total > items.length && <p class="tail"><a href={href(["tasks"], { queue: name, state: "dead" })}>All {plural(total, "dead task")}</a></p>}
    </div>
  );
}

function Submit({ name }: { name: string }): JSX.Element {
  const { value, error, refresh } = useReading(name, (signal) => request<TaskNameList>(["queues", name, "tasks"], { signal }));
  return (
    <Panel title="Submit a task" note={value && (value.items.length ? plural(value.items.length, "registered task") : "no worker announced its tasks yet")}>
      {error !== undefined && !value ? <Failure error={error} retry={refresh} /> : !value ? <Loading /> : <SubmitForm queue={name} tasks={value.items} />}
    </Panel>
  );
}
