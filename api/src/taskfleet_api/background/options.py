"""Intervals and bounds of the background services; `options_from` derives them from the settings."""

from dataclasses import dataclass

from taskfleet_api.settings import Settings

__all__ = ["BackgroundOptions", "options_from"]

PUBLISH_BATCH = 512  # building one takes some 10 ms of the loop: others run in between


@dataclass(frozen=True, kw_only=True, slots=True)
class BackgroundOptions:
    """Each field has the unit in its name; the defaults are those of the settings."""

    broker_name: str = "default"  # registrations that name another broker are scale-only
    publish_batch: int = PUBLISH_BATCH  # messages built and handed to the publisher at once
    publish_timeout_seconds: float = 10.0
    dispatch_capacity: int = 50_000  # committed tasks in memory; more stay for the sweeper
    republish_grace_seconds: float = 10.0  # after it a pending task belongs to the sweepers
    returned_retry_seconds: float = 0.5  # after a message came back because its queue was missing
    mark_batch: int = 2_000
    recorder_batch: int = 500
    recorder_lanes: int = 2  # one reads and parses while the other waits for the database
    recorder_block_seconds: float = 1.0
    beat_interval_seconds: float = 1.0  # between signs of life; a replica without is dead after three looks
    takeover_interval_seconds: float = 1.0  # how often entries of dead replicas are looked for
    reclaim_idle_seconds: float = 30.0  # entries that a living replica has not recorded are taken over after it
    reclaim_interval_seconds: float = 5.0
    sweep_interval_seconds: float = 1.0
    sweep_batch: int = 1_000
    lease_interval_seconds: float = 5.0
    lease_quiet_seconds: float = 30.0
    unacked_interval_seconds: float = 2.0
    unacked_idle_seconds: float = 10.0  # Valkey broker: a message no heartbeat names that long is put back
    directory_interval_seconds: float = 1.0
    catalog_interval_seconds: float = 5.0
    registry_forget_seconds: float = 120.0  # a queue missing from a non-empty registry that long is gone
    monitor_interval_seconds: float = 1.0
    schedule_interval_seconds: float = 1.0
    schedule_late_seconds: float = 60.0  # `skip` drops ticks that are later than this
    schedule_catch_up_limit: int = 1_000  # `all` runs at most the newest so many
    schedule_batch: int = 100
    retention_days: float = 30.0
    history_days: float = 2.0  # 0 keeps no history
    idempotency_ttl_seconds: float = 86_400.0
    retention_interval_seconds: float = 60.0
    retention_batch: int = 1_000
    callback_interval_seconds: float = 1.0
    callback_lease_margin_seconds: float = 20.0  # above the time of a call: whose replica died is called again then
    callback_review_seconds: float = 10.0  # pause between two pages of the search for ends that nobody noted
    callback_review_batch: int = 1_000
    callback_timeout_seconds: float = 10.0
    callback_attempts: int = 16
    callback_backoff_seconds: float = 5.0
    callback_max_backoff_seconds: float = 3600.0
    callback_concurrency: int = 32
    callback_concurrency_per_host: int = 4
    backoff_first_seconds: float = 0.2
    backoff_max_seconds: float = 10.0


def options_from(settings: Settings) -> BackgroundOptions:
    """The options of a process with these settings; what no setting names keeps its default."""
    return BackgroundOptions(
        broker_name=settings.broker_name,
        publish_batch=min(PUBLISH_BATCH, settings.publish_window),
        publish_timeout_seconds=settings.publish_timeout_seconds,
        republish_grace_seconds=settings.republish_grace_seconds,
        recorder_batch=settings.recorder_batch,
        sweep_interval_seconds=settings.sweep_interval_seconds,
        lease_quiet_seconds=settings.lease_quiet_seconds,
        retention_days=settings.retention_days,
        history_days=settings.history_days,
        idempotency_ttl_seconds=settings.idempotency_ttl_seconds,
        callback_timeout_seconds=settings.callback_timeout_seconds,
        callback_attempts=settings.callback_attempts,
        callback_backoff_seconds=settings.callback_backoff_seconds,
        callback_max_backoff_seconds=settings.callback_max_backoff_seconds,
        callback_concurrency=settings.callback_concurrency,
        callback_concurrency_per_host=settings.callback_concurrency_per_host,
    )
