"""Every expression of the dashboards and rules has an answer from a real Prometheus that scrapes real processes."""

import pytest
from tests.dashboards.conftest import QUEUE, Monitored
from tests.dashboards.expressions import find_unanswered, list_alerts, list_panels, open_prometheus, query, substitute
from tests.support.waiting import eventually_sync

# One installation for all of them, also where tests run in several processes.
pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("dashboards")]
WINDOW = "15s"
ANSWER_SECONDS = 120


def test_every_panel_metric_and_selector_has_an_answer_under_load(monitored: Monitored) -> None:
    """Also with one queue chosen, as people do."""
    prometheus = monitored.prometheus
    chosen = {"namespace": monitored.namespace, "queue": QUEUE}
    missing: list[str] = []

    def ask() -> bool:
        missing[:] = find_unanswered(prometheus.url, chosen, window=WINDOW)
        return not missing

    try:
        eventually_sync(ask, ANSWER_SECONDS, 2)
    except AssertionError:
        pytest.fail("without an answer:\n" + "\n".join(missing) + f"\nnot scraped: {prometheus.list_down()}")
    assert find_unanswered(prometheus.url, window=WINDOW) == [], "with all queues chosen"


def test_a_queue_that_does_not_exist_has_no_answers(monitored: Monitored) -> None:
    """The test above can fail: nearly all panels of a queue are about nothing then."""
    missing = find_unanswered(monitored.prometheus.url, {"queue": "no-such-queue"}, window=WINDOW)
    of_queue = [text for text in missing if text.startswith("queue.json / ")]
    panels = [panel for panel in list_panels() if panel.place.startswith("queue.json / ")]
    assert len(of_queue) > 0.9 * len(panels)


def test_nothing_alerts_while_all_is_well(monitored: Monitored) -> None:
    """Tasks of the load fail on purpose; nothing else may stand out."""
    expected = {"TaskfleetTasksFailing"}
    assert set(monitored.prometheus.list_firing()) <= expected
    with open_prometheus(monitored.prometheus.url) as prometheus:
        holding = [alert.place for alert in list_alerts() if query(prometheus, substitute(alert.text, window=WINDOW))]
    # What holds for a moment is no alert yet; these must never hold here, also with a time to wait of minutes.
    never = {"TaskfleetOperatorAbsent", "TaskfleetPollerStale", "TaskfleetDeadLetters", "TaskfleetDependencyDown"}
    assert not never & {place.rpartition(" / ")[2] for place in holding}
