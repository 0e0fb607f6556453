"""Strikes that leave every process running: the network, clocks, alarms of the broker, a slow database."""

from collections.abc import Callable

from tests.faults.generator import QUEUE
from tests.faults.striking import Field, Strike
from tests.support.proxies import Proxy
from tests.support.stack import Stack

__all__ = ["alarm_disk", "alarm_memory", "delay_link", "drop_link", "mend_clock", "refuse_link", "step_clock"]

HOUR_SECONDS = 3600


# --- network ---------------------------------------------------------------------------------------------------------


def _refuse(proxy: Proxy) -> None:
    proxy.refusing = True
    proxy.cut()


def _disturb(link: str, order: Callable[[Proxy], None]) -> Strike:
    def strike(field: Field) -> None:
        field.stack.links.tell(link, order)
        field.last(field.pace.network_seconds)
        field.stack.links.mend(link)
        field.lift()

    return strike


def refuse_link(link: str) -> Strike:
    """Connections are reset, new ones refused."""
    return _disturb(link, _refuse)


def drop_link(link: str) -> Strike:
    """Connections stay and not a byte arrives: what was sent meanwhile arrives afterwards, as TCP sends it again."""
    return _disturb(link, Proxy.freeze)


def delay_link(link: str, seconds: float) -> Strike:
    """Every packet comes so much later, in both directions."""

    def order(proxy: Proxy) -> None:
        proxy.delay_seconds = seconds

    return _disturb(link, order)


# --- alarms of the broker --------------------------------------------------------------------------------------------


def alarm_memory(field: Field) -> None:
    """RabbitMQ accepts nothing from publishers while it takes itself for too large."""
    broker = field.stack.broker
    broker.control("set_vm_memory_high_watermark", "absolute", "1MB")
    field.last(field.pace.network_seconds)
    broker.control("set_vm_memory_high_watermark", "0.6")
    field.lift()


def alarm_disk(field: Field) -> None:
    """RabbitMQ accepts nothing from publishers while it takes its disk for too full."""
    broker = field.stack.broker
    broker.control("set_disk_free_limit", "100000000000000")
    field.last(field.pace.network_seconds)
    broker.control("set_disk_free_limit", "50000000")
    field.lift()


# --- clocks ----------------------------------------------------------------------------------------------------------


def step_clock(part: str, hours: int) -> Strike:
    """The clock of one part jumps. A step backwards is mended again: what is due meanwhile would wait for the hour."""

    def strike(field: Field) -> None:
        stack = field.stack
        stack.give_clock(part)
        _restart(stack, part)
        field.load.wait_accepted(field.pace.before // 2)
        stack.step_clock(part, hours * HOUR_SECONDS)
        field.load.wait_accepted(field.pace.before // 2)
        field.last()
        if hours < 0:
            stack.step_clock(part, 0)
        field.lift()
        stack.take_clock(part)  # with the next start

    return strike


def mend_clock(stack: Stack, part: str) -> None:
    """The machine's clock again, by a restart."""
    _restart(stack, part)


def _restart(stack: Stack, part: str) -> None:
    if part == "API":
        stack.restart_api()
    elif part == "worker":
        stack.stop_workers(QUEUE)
        for _ in range(2):
            stack.start_worker(QUEUE)
    else:
        server = stack.database if part == "database" else stack.valkey
        server.environment = stack.clock_of(part)
        server.kill()
        server.start()
