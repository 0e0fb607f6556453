"""All faults of the local stack, in the order of the page."""

import functools

from tests.faults import disturbing as disturb
from tests.faults import killing as kill
from tests.faults import pausing as pause
from tests.faults.ground import LINKS, GroundOptions
from tests.faults.striking import Fault

__all__ = ["FAULTS", "FIXED", "POOL"]

THREE_NODES = GroundOptions(broker_nodes=3)
FORGETFUL = GroundOptions(appendonly=False)
TWO_REPLICAS = GroundOptions(replicas=2)
SMALL_DISK = GroundOptions(small_disk=True)
LINK_DELAY_SECONDS = 0.1
SLOW_SECONDS = 0.5


def _build_fixed() -> list[Fault]:
    return [
        Fault("API killed between commit and publish", "API", kill.kill_api_before_publish),
        Fault("API killed", "API", kill.kill_api),
        Fault("API stopped", "API", kill.stop_api),
        Fault("one of two APIs killed in the middle of a batch", "API", pause.kill_api_with_reports, TWO_REPLICAS),
        Fault("one of two APIs paused in the middle of a batch", "API", pause.pause_api, TWO_REPLICAS),
        Fault("worker killed", "Worker", kill.kill_worker),
        Fault("worker's parent process killed", "Worker", kill.kill_worker_parent),
        Fault("prefork child killed, three times", "Worker", kill.kill_worker_child),
        Fault("prefork child stopped, three times", "Worker", kill.stop_worker_child),
        Fault("worker paused", "Worker", pause.pause_worker),
        Fault("worker stopped", "Worker", kill.stop_worker),
        Fault("worker out of memory", "Worker", kill.starve_worker),
        Fault("RabbitMQ killed", "Broker", kill.kill_broker),
        Fault("RabbitMQ stopped", "Broker", kill.stop_broker),
        Fault("RabbitMQ's memory alarm", "Broker", disturb.alarm_memory),
        Fault("RabbitMQ's disk alarm", "Broker", disturb.alarm_disk),
        Fault("one of three RabbitMQ nodes killed, a follower", "Broker", kill.kill_follower, THREE_NODES),
        Fault("one of three RabbitMQ nodes killed, the leader", "Broker", kill.kill_leader, THREE_NODES),
        Fault("one of three RabbitMQ nodes stopped, a follower", "Broker", kill.stop_follower, THREE_NODES),
        Fault("one of three RabbitMQ nodes stopped, the leader", "Broker", kill.stop_leader, THREE_NODES),
        Fault("Valkey killed", "Valkey", kill.kill_valkey),
        Fault("Valkey killed, without append-only file", "Valkey", kill.kill_valkey, FORGETFUL),
        Fault("Valkey stopped", "Valkey", kill.stop_valkey),
        Fault("Valkey flushed", "Valkey", kill.flush_valkey),
        Fault("PostgreSQL killed", "Database", kill.kill_database),
        Fault("PostgreSQL stopped", "Database", kill.stop_database),
        Fault("PostgreSQL slow", "Database", disturb.delay_link("API to database", SLOW_SECONDS)),
        Fault("PostgreSQL's disk full", "Database", kill.fill_disk, SMALL_DISK),
        *(Fault(f"{link}: refused", "Network", disturb.refuse_link(link)) for link in LINKS),
        *(Fault(f"{link}: dropped", "Network", disturb.drop_link(link)) for link in LINKS),
        *(Fault(f"{link}: delayed", "Network", disturb.delay_link(link, LINK_DELAY_SECONDS)) for link in LINKS),
        *(_build_step(part, hours) for part in ("API", "worker", "Valkey", "database") for hours in (1, -1)),
    ]


def _build_step(part: str, hours: int) -> Fault:
    direction = "ahead" if hours > 0 else "back"
    mend = functools.partial(disturb.mend_clock, part=part)
    return Fault(f"{part}'s clock an hour {direction}", "Clock", disturb.step_clock(part, hours), mend=mend)


FAULTS = _build_fixed()
# What `make test` runs, on one stack.
FIXED = [
    next(fault for fault in FAULTS if fault.name == name)
    for name in (
        "API killed between commit and publish",
        "API killed",
        "worker killed",
        "prefork child killed, three times",
        "RabbitMQ killed",
        "Valkey killed",
        "Valkey flushed",
        "PostgreSQL killed",
    )
]
# Faults that may follow one another at once on one stack, and need nothing but the servers.
POOL = [
    fault
    for fault in FAULTS
    if fault.ground == GroundOptions() and fault.part != "Clock" and fault.strike is not kill.starve_worker
]
