// The frame around every page: where one is, whether figures are fresh, and the way to the others.
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Messages, Questions } from "./parts/dialogs";
import { Keyboard, KeyPage, Mark } from "./parts/keys";
import { Empty } from "./parts/pieces";
import { Overview } from "./pages/overview";
import { QueuePage } from "./pages/queue";
import { TaskPage } from "./pages/task";
import { TasksPage } from "./pages/tasks";
import { useCell } from "./state/cell";
import { queues, refreshQueues } from "./state/queues";
import { href, route, type Route } from "./state/router";
import { forgetKey, session } from "./state/session";
import { dark, toggleTheme } from "./state/theme";

export function App(): JSX.Element {
  const { locked } = useCell(session);
  const current = useCell(route);
  useEffect(refreshQueues, []);
  useEffect(() => {
    document.title = [...current.path.toReversed(), "Taskfleet"].join(" · ");
  }, [current]);
  if (locked) return <KeyPage />;
  const section = current.path[0] === "tasks" ? "tasks" : "queues";
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>To the content</a>
      <header class="bar">
        <a class="home" href={href([])}><Mark /><span>Taskfleet</span></a>
        <nav aria-label="Pages">
          <a href={href([])} aria-current={section === "queues" ? "page" : undefined}>Queues</a>
          <a href={href(["tasks"])} aria-current={section === "tasks" ? "page" : undefined}>Tasks</a>
        </nav>
        <span class="fill" />
        <Freshness />
        <Buttons />
      </header>
      <Outage />
      <main id="main" tabIndex={-1}><Page current={current} /></main>
      <Questions />
      <Messages />
      <Keyboard />
    </>
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Page({ current }: { current: Route }): JSX.Element {
  const [section, name, more] = current.path;
  if (more === undefined) {
    if (section === undefined || (section === "queues" && name === undefined)) return <Overview />;
    if (section === "queues" && name !== undefined) return <QueuePage key={name} name={name} />;
    if (section === "tasks" && name === undefined) return <TasksPage />;
    if (section === "tasks" && name !== undefined) return <TaskPage key={name} id={name} />;
  }
  return <Empty page title="There is no such page"><p><a href={href([])}>All queues</a></p></Empty>;
}

function Buttons(): JSX.Element {
  const isDark = useCell(dark);
  const { key } = useCell(session);
  const label = isDark ? "Light colours" : "Dark colours";
  return (
    <div class="tools">
      {key && <button type="button" class="quiet" onClick={forgetKey}>Forget key</button>}
      <button type="button" class="quiet icon" aria-label={label} title={`${label} (d)`} onClick={toggleTheme}>
        {isDark ? "☀" : "☾"}
      </button>
      <button
        type="button" class="quiet icon" aria-label="Keys" title="Keys (?)"
        onClick={() => document.dispatchEvent(new Event("show-keys"))}
      >?</button>
    </div>
  );
}

function Freshness(): JSX.Element {
  const { problem, loaded } = useCell(queues);
  const state = problem ? "away" : loaded ? "live" : "reading";
  return <span class={`fresh f-${state}`} role="status">{state}</span>;
}

function Outage(): JSX.Element | null {
  const { problem, readAt } = useCell(queues);
  if (!problem) return null;
  const since = readAt ? ` These are the figures of ${new Date(readAt).toLocaleTimeString("en-GB")}.` : "";
  return <div class="outage" role="alert">{problem.message} Trying again.{since}</div>;
}
