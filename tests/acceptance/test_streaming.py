"""Server-sent events: every state and the progress of a task, and resuming where a stream broke off."""

from tests.support.task_api import ServerEvent, TaskApi


def test_a_stream_shows_states_and_progress_and_ends_with_the_task(api: TaskApi, jobs: str) -> None:
    task = api.submit(jobs, "jobs.progress", 5, kwargs={"pause_seconds": 0.15})
    with api.events(task["id"]) as stream:
        events = list(stream)

    states = [event.data["state"] for event in events if event.name == "state"]
    assert states[-1] == "succeeded"
    assert "running" in states
    done = [event.data["progress"]["done"] for event in events if event.name == "progress"]
    assert done == sorted(done)
    assert done[-1] == 5
    assert api.get(task["id"])["progress"] == {"done": 5, "total": 5}


def test_a_stream_resumes_after_the_last_event_id_on_another_replica(
    api: TaskApi, other_api: TaskApi, jobs: str
) -> None:
    task = api.submit(jobs, "jobs.progress", 6, kwargs={"pause_seconds": 0.15})
    seen: list[ServerEvent] = []
    with api.events(task["id"]) as stream:
        for event in stream:
            seen.append(event)
            if event.name == "progress":
                break
    with other_api.events(task["id"], last_event_id=seen[-1].id) as stream:
        rest = list(stream)

    ids = [event.id for event in (*seen, *rest)]
    assert len(ids) == len(set(ids)), "an event was sent twice"
    assert rest[-1].data["state"] == "succeeded"


def test_the_stream_of_a_finished_task_ends_at_once_with_its_final_state(api: TaskApi, jobs: str) -> None:
    record = api.run(jobs, "jobs.add", 1, 1)
    with api.events(record["id"], timeout_seconds=5) as stream:
        events = list(stream)

    assert events[-1].data["state"] == "succeeded"
    assert events[-1].data["result"] == 2


def test_resuming_after_the_final_state_sends_nothing_again(api: TaskApi, jobs: str) -> None:
    record = api.run(jobs, "jobs.add", 1, 1)
    with api.events(record["id"]) as stream:
        last = list(stream)[-1]
    with api.events(record["id"], last_event_id=last.id, timeout_seconds=5) as stream:
        assert list(stream) == []


def test_a_reader_sees_the_progress_of_a_running_task(api: TaskApi, other_api: TaskApi, jobs: str) -> None:
    task = api.submit(jobs, "jobs.progress", 8, kwargs={"pause_seconds": 0.2})
    with api.events(task["id"]) as stream:
        for event in stream:
            if event.name == "progress":
                assert other_api.get(task["id"])["progress"]["done"] >= event.data["progress"]["done"]
                break
