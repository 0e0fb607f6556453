"""kill -9 of each part with 300 accepted tasks: nothing is lost, all end, and every second run has a cause."""

import sys
from collections.abc import Iterator

import pytest
from tests.support.kills import SCENARIOS, Scenario, kill_stack
from tests.support.ledger import Cause
from tests.support.stack import Stack

pytestmark = [pytest.mark.kill, pytest.mark.timeout(300, func_only=True)]

TASKS = 300
SETTLE_SECONDS = 60


@pytest.fixture(scope="module")
def victim() -> Iterator[Stack]:
    """One stack for all kills: each leaves every part running again."""
    with kill_stack() as stack:
        yield stack


@pytest.mark.parametrize("scenario", [pytest.param(each, id=each.name) for each in SCENARIOS])
def test_nothing_accepted_is_lost(victim: Stack, scenario: Scenario) -> None:
    load = scenario.run(victim, TASKS)
    account = load.settle(SETTLE_SECONDS)

    sys.stdout.write(f"{scenario.name}: {account}; {load.refused} submissions refused\n")
    assert not account.lost, str(account)
    assert account.states == {"succeeded": account.accepted}, str(account)
    assert not account.untold, str(account)
    assert account.duplicates.get(Cause.UNEXPLAINED, 0) == 0, str(account)
