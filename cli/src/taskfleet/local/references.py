"""The settings of reference 001 in local mode: with `--references`, its names decide what no option says."""

import os
from dataclasses import replace

from pydantic import ValidationError

from taskfleet.local.files import LoadedQueue, find_files, load_queues
from taskfleet.local.options import UpOptions
from taskfleet_core.errors import InvalidInputError
from taskfleet_core.reference_settings import ReferenceSettings

__all__ = ["apply_reference_settings", "load_option_queues"]

QUEUE = "delay"
CONCURRENCY_NAME = "worker_concurrency"


def apply_reference_settings(options: UpOptions) -> UpOptions:
    """RABBITMQ_HOST and the names beside it stand in for `--broker`. Raises InvalidInputError for a wrong value."""
    if not options.references:
        return options
    settings = _fetch_settings()
    if options.broker_url is not None or settings.broker_url is None or settings.management_url is None:
        return options
    return replace(
        options,
        broker_url=settings.broker_url.get_secret_value(),
        broker_management_url=options.broker_management_url or settings.management_url.get_secret_value(),
    )


def load_option_queues(options: UpOptions) -> list[LoadedQueue]:
    """The queues of the options' files; `worker_concurrency`, where it is set, beats the file of the queue `delay`."""
    loaded = load_queues(find_files(options.files))
    names = {name.lower() for name in os.environ}
    if not options.references or CONCURRENCY_NAME not in names:
        return loaded
    concurrency = _fetch_settings().worker_concurrency
    return [_with_concurrency(item, concurrency) if item.queue.queue_name == QUEUE else item for item in loaded]


def _with_concurrency(item: LoadedQueue, concurrency: int) -> LoadedQueue:
    spec = item.queue.spec
    worker = spec.worker.model_copy(update={"concurrency": concurrency})
    return replace(item, queue=item.queue.model_copy(update={"spec": spec.model_copy(update={"worker": worker})}))


def _fetch_settings() -> ReferenceSettings:
    try:
        return ReferenceSettings()
    except ValidationError as error:
        faults = (f"{fault['loc'][0]}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise InvalidInputError("environment: " + "; ".join(faults)) from error
