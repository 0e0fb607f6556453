"""Figures of several queues as if they were one."""

from taskfleet_core.statistics import QueueStatistics, sum_statistics

ONE = QueueStatistics(3, 1, 10, 6, 2, 100.0)
OTHER = QueueStatistics(4, 0, 5, 1, 2, 99.0, is_stale=True)


def test_figures_add_up_and_the_oldest_tells_their_age() -> None:
    assert sum_statistics([ONE, OTHER]) == QueueStatistics(7, 1, 15, 7, 4, 99.0, is_stale=True)
    assert sum_statistics([ONE]) is ONE


def test_what_is_unknown_of_one_is_unknown_of_all() -> None:
    assert sum_statistics([ONE, None]) is None
    assert sum_statistics([]) is None
    partial = sum_statistics([ONE, QueueStatistics(4, None, None, 1, 2, 99.0)])
    assert partial is not None
    assert (partial.ready, partial.unacknowledged, partial.published, partial.acknowledged) == (7, None, None, 7)
