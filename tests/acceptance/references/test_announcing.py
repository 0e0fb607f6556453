"""`python -m taskfleet_api.announce`: what stands in for the operator under compose."""

import sys
from pathlib import Path

from tests.support.processes import free_port, start_process
from tests.support.site import EXAMPLES, Site
from tests.support.waiting import eventually_sync


def test_the_queues_of_files_are_known_and_declared_once_the_mark_is_there(site: Site, tmp_path: Path) -> None:
    mark = tmp_path / "announced"
    announcer = start_process(
        [sys.executable, "-m", "taskfleet_api.announce", f"--mark={mark}", str(EXAMPLES / "hello" / "taskqueue.yaml")],
        env=site.stack.api_environment(free_port()),
        log=tmp_path / "announce.log",
        ready=mark.exists,
    )
    try:
        queue = eventually_sync(
            lambda: (a := site.http.get("/api/v1/queues/hello")).status_code == 200 and a.json(), 10
        )
        assert isinstance(queue, dict)
        task = site.api.submit("hello", "hello.add", 1, 2)
        assert site.api.wait(task["id"], "queued")["state"] == "queued"  # the broker has the queue
    finally:
        assert announcer.terminate() == 0
