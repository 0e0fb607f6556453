"""Rules for every test: no TASKFLEET_* from outside, plugins of tests/support, logs of real processes on failure."""

import gc
import os
import sys
from collections.abc import Generator
from typing import Any

import hypothesis
import pytest

# How long an example takes says nothing on a machine with much else to do.
hypothesis.settings.register_profile(
    "taskfleet", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.register_profile("brief", parent=hypothesis.settings.get_profile("taskfleet"), max_examples=20)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "taskfleet"))

# Each of the hundreds of processes that tests start would compile all that it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

for _name in [name for name in os.environ if name.startswith(("TASKFLEET_", "CELERY_"))]:
    del os.environ[_name]

pytest_plugins = [
    f"tests.support.{name}"
    for name in ("brokers", "databases", "parallel", "stack", "site", "controlplane", "hardened")
]


def pytest_collection_finish() -> None:
    """Let the garbage collector forget what was imported: going through it again and again was an eighth of all CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the last lines of the logs of every stack that a failed test used."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            tails = getattr(value, "log_tails", None)
            if tails is not None:
                report.sections.extend(tails())
    return report
