// One task as it happens: states and attempts over time, progress, arguments, result, error; retry and cancel.
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { describe, Problem, request } from "../api/client";
import { follow } from "../api/stream";
import type { AttemptModel, TaskModel } from "../api/types";
import { count, duration, moment, seconds, UNKNOWN } from "../format";
import { confirm, tell } from "../parts/dialogs";
import { Copy, Failure, Figure, FINAL, Json, Loading, Panel, RETRYABLE, State } from "../parts/pieces";
import { useReading } from "../state/reading";
import { href } from "../state/router";

interface TaskError {
  type?: string;
  message?: string;
  traceback?: string | null;
}

export function TaskPage({ id }: { id: string }): JSX.Element {
  const { value: task, error, refresh, set } = useReading(id, (signal) => request<TaskModel>(["tasks", id], { signal }));
  const [cut, setCut] = useState(false);
  const exists = task !== undefined;
  useEffect(() => {
    if (!exists) return;
    return follow(["tasks", id, "events"], { follow: "true" }, {
      event: ({ event, data }) => {
        if (event === "state") refresh();
        else if (event === "progress") setProgress((JSON.parse(data) as TaskModel).progress);
      },
      connected: (connected) => setCut(!connected),
    });
  }, [id, exists]);
  const [progress, setProgress] = useState<unknown>(undefined);
  useEffect(() => setProgress(undefined), [task?.attempt]);

  if (!task) return error === undefined ? <Loading /> : <Failure page error={explain(error, id)} retry={refresh} />;
  return (
    <div class="page">
      <div class="head">
        <div class="crumbs">
          <a href={href(["tasks"])}>Tasks</a><span class="sep">/</span><h1>{task.task}</h1><State state={task.state} />
          {cut && <small role="status">reconnecting…</small>}
        </div>
        <span class="fill" />
        <Actions task={task} set={set} />
      </div>
      <Facts task={task} />
      <Progress progress={progress ?? task.progress} state={task.state} />
      <Timeline task={task} />
      <Failed task={task} />
      <div class="grid">
        <Panel title="Arguments" actions={<Copy text={JSON.stringify({ args: task.args, kwargs: task.kwargs })} label="Copy the arguments" />}>
          <div class="body">
            {task.args === null && task.kwargs === null ? <p class="dim">They were not sent as JSON.</p> : <Given args={task.args ?? []} kwargs={task.kwargs ?? {}} />}
            {task.metadata && Object.keys(task.metadata).length > 0 && <><h3>Metadata</h3><Json value={task.metadata} /></>}
          </div>
        </Panel>
        <Panel title="Result" actions={task.state === "succeeded" && <Copy text={JSON.stringify(task.result)} label="Copy the result" />}>
          <div class="body"><Result task={task} /></div>
        </Panel>
      </div>
    </div>
  );
}

function Given({ args, kwargs }: { args: readonly unknown[]; kwargs: Record<string, unknown> }): JSX.Element {
  const hasNamed = Object.keys(kwargs).length > 0;
  if (!args.length && !hasNamed) return <p class="dim">None.</p>;
  return (
    <>
      {args.length > 0 && <><h3>Positional</h3><Json value={args} /></>}
      {hasNamed && <><h3>Named</h3><Json value={kwargs} /></>}
    </>
  );
}

function explain(error: unknown, id: string): unknown {
  return error instanceof Problem && error.status === 422 ? new Problem(404, `“${id}” is no task's id.`) : error;
}

function Result({ task }: { task: TaskModel }): JSX.Element {
  if (task.result_omitted_bytes) return <p class="dim">The result has {count(task.result_omitted_bytes)} bytes: too large to be kept.</p>;
  if (task.state === "succeeded") return <Json value={task.result} />;
  return <p class="dim">{FINAL.has(task.state) ? "None: the task did not succeed." : "Not yet."}</p>;
}

function Actions({ task, set }: { task: TaskModel; set: (task: TaskModel) => void }): JSX.Element {
  const run = async (act: () => Promise<TaskModel>, text: string) => {
    try {
      set(await act());
      tell(text);
    } catch (error) {
      tell(describe(error), true);
    }
  };
  const retry = () => run(() => request<TaskModel>(["tasks", `${task.id}:retry`], { method: "POST" }), "A new attempt begins.");
  const cancel = async () => {
    const runs = task.state === "running";
    if (await confirm(runs ? "Stop this task?" : "Cancel this task?", runs ? "It runs now; its worker will be told to stop it." : "It will not run.", runs ? "Stop it" : "Cancel it"))
      await run(() => request<TaskModel>(["tasks", task.id], { method: "DELETE", query: { terminate: "true" } }), runs ? "Its worker was told." : "Cancelled.");
  };
  return (
    <div class="buttons">
      {RETRYABLE.has(task.state) && <button type="button" class="primary" onClick={retry}>Retry</button>}
      {!FINAL.has(task.state) && <button type="button" disabled={task.cancel_requested} onClick={cancel}>{task.cancel_requested ? "Being cancelled" : "Cancel"}</button>}
    </div>
  );
}

function Facts({ task }: { task: TaskModel }): JSX.Element {
  const waited = task.started_at ? seconds(task.started_at)! - seconds(task.created_at)! : null;
  return (
    <dl class="figures panel body facts">
      <Fact name="Id"><span class="mono">{task.id}</span><Copy text={task.id} label="Copy the id" /></Fact>
      <Fact name="Queue"><a href={href(["queues", task.queue])}>{task.queue}</a></Fact>
      <Fact name="Attempt">{task.attempt} of {Math.max(task.attempt, task.max_attempts)}{task.retries > 0 && <small>{task.retries} retries by Celery</small>}</Fact>
      <Fact name="Created">{moment(task.created_at)}</Fact>
      {task.due_at && <Fact name="Due">{moment(task.due_at)}</Fact>}
      <Fact name="Waited">{duration(waited === null ? null : Math.max(0, waited))}</Fact>
      <Fact name="Ran">{duration(task.runtime_seconds)}</Fact>
      <Fact name="Worker">{task.worker ?? UNKNOWN}</Fact>
      <Fact name="From">{task.origin}</Fact>
      {task.priority !== null && <Fact name="Priority">{task.priority}</Fact>}
      {task.timeout_seconds !== null && <Fact name="Time limit">{duration(task.timeout_seconds)}</Fact>}
      {task.expires_at && <Fact name="Expires">{moment(task.expires_at)}</Fact>}
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }): JSX.Element {
  return <Figure name={name} value={children} />;
}

const PAIRS: readonly (readonly [string, string])[] = [["current", "total"], ["done", "total"], ["step", "steps"], ["completed", "total"]];

/** How far a task is, in the shapes that people report progress in; null where it cannot be told. */
export function readShare(progress: unknown): number | null {
  if (typeof progress === "number") return progress <= 1 ? progress : progress / 100;
  if (typeof progress !== "object" || progress === null) return null;
  const members = progress as Record<string, unknown>;
  for (const [part, whole] of PAIRS) {
    const [now, all] = [members[part], members[whole]];
    if (typeof now === "number" && typeof all === "number" && all > 0) return Math.min(1, now / all);
  }
  const percent = members["percent"] ?? members["percentage"] ?? members["progress"];
  return typeof percent === "number" ? Math.min(1, percent / 100) : null;
}

function Progress({ progress, state }: { progress: unknown; state: string }): JSX.Element | null {
  if (progress === null || progress === undefined) return null;
  const share = readShare(progress);
  return (
    <Panel title="Progress" note={share !== null && `${Math.round(share * 100)} %`}>
      <div class="body">
        {share !== null && <progress class={`p-${state}`} max={1} value={share} aria-label="Progress" />}
        <p class="mono dim">{JSON.stringify(progress)}</p>
      </div>
    </Panel>
  );
}

function Timeline({ task }: { task: TaskModel }): JSX.Element {
  const now = useClock(!FINAL.has(task.state));
  const start = seconds(task.created_at)!;
  const end = FINAL.has(task.state) ? (seconds(task.finished_at) ?? seconds(task.updated_at)!) : now;
  const span = Math.max(0.001, end - start);
  return (
    <Panel title="Timeline" note={`${duration(span)} from submission to ${FINAL.has(task.state) ? "the end" : "now"}`}>
      <div class="wide" tabIndex={0} role="region" aria-label="Attempts">
        <table class="timeline">
          <thead>
            <tr>
              <th scope="col">Attempt</th><th scope="col">State</th><th scope="col" class="track-head">Waiting and running</th>
              <th scope="col" class="numeric">Sent</th><th scope="col" class="numeric">Began</th><th scope="col" class="numeric">Ended</th>
              <th scope="col" class="numeric">Ran</th><th scope="col">Worker</th>
            </tr>
          </thead>
          <tbody>
            {task.attempts.map((attempt, index) => {
              const before = task.attempts[index - 1];
              return <Attempt key={attempt.attempt} attempt={attempt} from={index ? (seconds(before?.finished_at) ?? seconds(attempt.published_at)) : start} start={start} span={span} end={end} />;
            })}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

function Attempt({ attempt, from, start, span, end }: { attempt: AttemptModel; from: number | null; start: number; span: number; end: number }): JSX.Element {
  const began = seconds(attempt.started_at);
  const ended = seconds(attempt.finished_at);
  const bar = (kind: string, left: number, right: number) => (
    <span class={`bar-piece ${kind}`} style={{ left: `${(100 * (left - start)) / span}%`, width: `max(2px, ${(100 * Math.max(0, right - left)) / span}%)` }} />
  );
  return (
    <tr>
      <td>{attempt.attempt}{attempt.deliveries > 1 && <small> delivered {attempt.deliveries} times</small>}</td>
      <td><State state={attempt.state} />{attempt.retries > 0 && <small> {attempt.retries} retries</small>}</td>
      <td class="track-cell">
        <div class="track" aria-hidden="true">
          {from !== null && bar("waiting", from, began ?? ended ?? end)}
          {began !== null && bar(`running s-${attempt.state}`, began, ended ?? end)}
        </div>
      </td>
      <td class="numeric dim">{moment(attempt.published_at)}</td>
      <td class="numeric dim">{moment(attempt.started_at)}</td>
      <td class="numeric dim">{moment(attempt.finished_at)}</td>
      <td class="numeric">{duration(attempt.runtime_seconds)}</td>
      <td class="dim">{attempt.worker ?? UNKNOWN}</td>
    </tr>
  );
}

function useClock(runs: boolean): number {
  const [now, setNow] = useState(Date.now() / 1000);
  useEffect(() => {
    if (!runs) return;
    const timer = setInterval(() => setNow(Date.now() / 1000), 500);
    return () => clearInterval(timer);
  }, [runs]);
  return now;
}

function Failed({ task }: { task: TaskModel }): JSX.Element | null {
  const failures = task.attempts.filter((attempt) => attempt.error !== null).toReversed();
  const [last, ...earlier] = failures;
  if (!last) return null;
  const error = last.error as TaskError;
  return (
    <Panel title="Error" note={task.attempts.length > 1 && `of attempt ${last.attempt}`} actions={<Copy text={error.traceback ?? error.message ?? ""} label="Copy the error" />}>
      <div class="body">
        <Failing error={error} />
        {earlier.map((attempt) => (
          <details key={attempt.attempt}>
            <summary>Attempt {attempt.attempt}: {(attempt.error as TaskError).type}</summary>
            <Failing error={attempt.error as TaskError} />
          </details>
        ))}
      </div>
    </Panel>
  );
}

function Failing({ error }: { error: TaskError }): JSX.Element {
  return (
    <>
      <p class="wrapped"><b class="bad">{error.type ?? "Error"}</b>{error.message && `: ${error.message}`}</p>
      {error.traceback && <pre tabIndex={0}>{error.traceback}</pre>}
    </>
  );
}
