"""The order of states: what may replace what."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet_core.states import FINAL_STATES, TRANSITIONS, TaskState, position, supersedes

attempts = st.integers(1, 10_000)
retries = st.integers(0, 10**7)
states = st.sampled_from(TaskState)


@given(attempts, retries, retries, states, states)
def test_a_final_state_ranks_behind_everything_of_its_attempt(attempt, r1, r2, state, other):
    """Nothing of the same attempt comes after its end, however often Celery retried."""
    final = position(attempt, r1, TaskState.SUCCEEDED)
    assert position(attempt, r2, state) <= final
    assert not supersedes(position(attempt, r2, other), final, other)


@given(attempts, retries, retries, states, states)
def test_a_later_attempt_comes_after_every_earlier_one(attempt, r1, r2, state, other):
    """Redrive and platform retries always move forward."""
    assert position(attempt + 1, r1, state) > position(attempt, r2, other)


@pytest.mark.parametrize(
    ("earlier", "later"),
    list(
        itertools.pairwise(
            [
                position(1, 0, TaskState.SCHEDULED),
                position(1, 0, TaskState.PENDING),
                position(1, 0, TaskState.QUEUED),
                position(1, 0, TaskState.RUNNING),
                position(1, 0, TaskState.RETRYING),
                position(1, 1, TaskState.RUNNING),
                position(1, 1, TaskState.RETRYING),
                position(1, 2, TaskState.RUNNING),
                position(1, 2, TaskState.RETRYING, ends_attempt=True),
                position(2, 0, TaskState.SCHEDULED),
            ]
        )
    ),
)
def test_a_task_moves_forward_through_retries_and_attempts(earlier, later):
    """The whole life of a task that Celery retries twice and the platform once."""
    assert later > earlier


def test_a_second_running_is_a_redelivery_but_a_second_end_is_refused():
    """Another worker may take over a running task; a finished attempt stays as it ended."""
    running = position(1, 0, TaskState.RUNNING)
    assert supersedes(running, running, TaskState.RUNNING)
    ended = position(1, 0, TaskState.FAILED)
    assert not supersedes(ended, position(1, 0, TaskState.SUCCEEDED), TaskState.FAILED)


def test_only_a_new_attempt_leaves_a_final_state():
    """The transition table says what the positions enforce."""
    for state in FINAL_STATES:
        assert TRANSITIONS[state] == {TaskState.PENDING, TaskState.RETRYING}
    assert set(TRANSITIONS) == set(TaskState)
