"""What can be done with tasks, independent of HTTP: every router (also of a reference contract) goes through here."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskfleet_api.background import Background
from taskfleet_api.brokers import Publisher
from taskfleet_api.live import LiveStore
from taskfleet_api.records import Records
from taskfleet_api.settings import Settings
from taskfleet_api.tasks.admission import Admission, OpenStreams
from taskfleet_api.tasks.model import NewSubmission, SubmittedTask
from taskfleet_api.tasks.reading import Tasks
from taskfleet_api.tasks.submitting import Submissions
from taskfleet_api.tasks.watching import Listings

if TYPE_CHECKING:
    from taskfleet_api.keys.service import Keys
    from taskfleet_api.metrics import ObservedMetrics
    from taskfleet_api.queues.history import Histories
    from taskfleet_api.queues.service import Queues
    from taskfleet_api.schedules.service import Schedules

__all__ = ["NewSubmission", "Services", "Submissions", "SubmittedTask", "Tasks"]


@dataclass(slots=True, kw_only=True)
class Services:
    """Everything that routers need, built once by the composition root (`app.state.services`)."""

    settings: Settings
    records: Records
    publisher: Publisher
    live: LiveStore
    background: Background
    admission: Admission
    streams: OpenStreams
    submissions: Submissions
    tasks: Tasks
    listings: Listings
    queues: "Queues"
    histories: "Histories"
    schedules: "Schedules"
    keys: "Keys"
    observed: "ObservedMetrics"
