"""Background: composes and supervises the background services of one API replica."""

from typing import Any

from taskfleet_api.background.directory import QueueDirectory
from taskfleet_api.background.dispatcher import Dispatcher
from taskfleet_api.background.monitor import QueueMonitor
from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.background.supervision import LoopHealth
from taskfleet_api.live import LiveStore

__all__ = ["Background"]


class Background:
    """All background services. The caller opens records, publisher and live before and closes them after."""

    dispatcher: Dispatcher
    directory: QueueDirectory
    monitor: QueueMonitor

    def __init__(
        self,
        *,
        records: Any,
        publisher: Any,
        topology: Any,
        dead_letters: Any,  # None on a Redis broker
        statistics: Any,  # a StatisticsReader
        live: LiveStore,
        broker_url: str,
        options: BackgroundOptions,
    ) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Load the directory (SQL copy first) and start all loops; does not wait for broker or Redis."""
        raise NotImplementedError

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Stop all loops; the dispatcher first gets `grace_seconds` to publish and mark what it holds."""
        raise NotImplementedError

    def health(self) -> dict[str, LoopHealth]:
        """Get the health of every loop by name."""
        raise NotImplementedError
