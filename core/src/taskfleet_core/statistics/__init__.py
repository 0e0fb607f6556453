"""What brokers say about their queues. Unknown is None, never zero."""

from taskfleet_core.statistics.model import QueueStatistics, ReadProblem, StatisticsReader, Trouble, sum_statistics
from taskfleet_core.statistics.opening import open_statistics

__all__ = ["QueueStatistics", "ReadProblem", "StatisticsReader", "Trouble", "open_statistics", "sum_statistics"]
