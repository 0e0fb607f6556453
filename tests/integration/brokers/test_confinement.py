"""A broker user of a TaskQueue's own serves its queues, and reaches nobody else's, by whatever way AMQP knows."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import aio_pika
import pytest
from aio_pika import exceptions
from pamqp import commands
from tests.integration.brokers.conftest import Broker

from taskfleet_core import wire
from taskfleet_core.addresses import parse_amqp_url, replace_login
from taskfleet_core.amqp import AmqpSession, ChannelClosedError, LoginRefusedError, connect_amqp
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.topology import QueueSpec, QueueUser, QueueUsers, open_topology

pytestmark = pytest.mark.timeout(90, func_only=True)


@dataclass
class Tenants:
    """Two queues with a user each; `mine` may also send to `shared`."""

    broker: Broker
    users: QueueUsers
    tag: str = field(default_factory=lambda: f"taskfleet-{uuid.uuid4().hex[:8]}")
    mine: str = field(default_factory=lambda: f"mine-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        stem = self.mine.removeprefix("mine-")
        # Names that end in mine, too: a right must not hold for them.
        self.theirs, self.shared = f"their.{self.mine}", f"shared-{stem}"
        self.me = QueueUser(f"taskfleet.team.{self.mine}", "my-password", (self.mine,), (self.shared,))
        self.they = QueueUser(f"taskfleet.other.{stem}", "their-password", (self.theirs,))
        self.third = QueueUser(f"taskfleet.team.{self.shared}", "third", (self.shared,))

    @property
    def all(self) -> list[QueueUser]:
        return [self.me, self.they, self.third]

    def url_of(self, user: QueueUser) -> str:
        return replace_login(self.broker.url, user.name, user.password)

    def count(self, queue: str) -> int:
        """Messages that are ready, asked of the queue itself."""

        async def look() -> int:
            async with await aio_pika.connect(self.broker.url, timeout=10) as connection:
                found = await (await connection.channel()).declare_queue(queue, passive=True, timeout=10)
                return found.declaration_result.message_count or 0

        return asyncio.run(look())

    def row(self, kind: str, user: QueueUser) -> list[dict[str, object]]:
        rows = self.broker.server.management("GET", f"/api/{kind}")
        return [row for row in rows if row.get("user", row.get("name")) == user.name]


@pytest.fixture(scope="module", params=["rabbitmq43", "rabbitmq310"])
def tenants(request: pytest.FixtureRequest) -> Tenants:
    broker = Broker(request.param, request.getfixturevalue(request.param))
    made = Tenants(broker, open_users(broker))

    broker.server.management("PUT", "/api/users/taskfleet-users", {"password": "admin", "tags": "administrator"})

    async def prepare() -> None:
        topology = open_topology(broker.url, broker.server.management_url)
        for user in made.all:
            await topology.ensure_queue(QueueSpec(name=user.queues[0]))
        await topology.close()
        assert sorted(await made.users.ensure(made.all, made.tag)) == sorted(user.name for user in made.all)
        assert await made.users.ensure(made.all, made.tag) == []
        await made.users.close()

    asyncio.run(prepare())
    return made


ADMINISTRATOR = "taskfleet-users:admin"  # as the chart makes it: without rights in any virtual host


def open_users(broker: Broker, login: str = ADMINISTRATOR) -> QueueUsers:
    (address,) = parse_amqp_url(broker.url)
    return QueueUsers(f"http://{login}@127.0.0.1:{broker.server.management_port}", address)


async def call(tenants: Tenants, user: QueueUser, *methods: object) -> None:
    (address,) = parse_amqp_url(tenants.url_of(user))
    session = await connect_amqp(AmqpSession, address, 10)
    try:
        for method in methods:
            await session.call(method)
    finally:
        await session.close()


async def publish(
    tenants: Tenants, exchange: str, key: str, headers: dict[str, object] | None = None, **properties: object
) -> None:
    async with await aio_pika.connect(tenants.url_of(tenants.me), timeout=10) as connection:
        channel = await connection.channel()
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        message = aio_pika.Message(b"{}", headers=headers, **properties)  # type: ignore[arg-type]
        await target.publish(message, routing_key=key, timeout=10, mandatory=False)


@contextlib.asynccontextmanager
async def using(broker: Broker, login: str = ADMINISTRATOR) -> AsyncIterator[QueueUsers]:
    users = open_users(broker, login)
    try:
        yield users
    finally:
        await users.close()


def test_it_sends_to_its_queue_and_takes_from_it(tenants: Tenants) -> None:
    asyncio.run(publish(tenants, wire.send_exchange(tenants.mine), tenants.mine))
    assert tenants.count(tenants.mine) == 1
    asyncio.run(call(tenants, tenants.me, commands.Queue.Purge(queue=tenants.mine)))
    asyncio.run(call(tenants, tenants.me, commands.Basic.Qos(prefetch_count=1)))
    assert tenants.count(tenants.mine) == 0


def test_it_sends_where_it_was_allowed_to_and_may_not_read_there(tenants: Tenants) -> None:
    before = tenants.count(tenants.shared)
    asyncio.run(publish(tenants, wire.send_exchange(tenants.shared), tenants.shared))
    assert tenants.count(tenants.shared) == before + 1
    with pytest.raises(ChannelClosedError, match="ACCESS_REFUSED"):
        asyncio.run(call(tenants, tenants.me, commands.Basic.Get(queue=tenants.shared)))


Build = Callable[[Tenants], object]
DEAD_LETTERS = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "theirs"}


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda t: commands.Basic.Get(queue=t.theirs), id="read"),
        pytest.param(lambda t: commands.Basic.Consume(queue=t.theirs), id="consume"),
        pytest.param(lambda t: commands.Queue.Purge(queue=t.theirs), id="purge"),
        pytest.param(lambda t: commands.Queue.Delete(queue=t.theirs), id="delete"),
        pytest.param(lambda t: commands.Queue.Delete(queue=t.mine), id="delete its own"),
        pytest.param(lambda t: commands.Basic.Get(queue=f"{t.mine}.dead"), id="read dead letters"),
        pytest.param(lambda t: commands.Basic.Get(queue="celery_delayed_0"), id="read what waits"),
        pytest.param(lambda t: commands.Queue.Declare(queue="new", durable=True), id="declare a queue"),
        pytest.param(
            lambda t: commands.Queue.Declare(queue=t.mine, durable=True, arguments={**DEAD_LETTERS}),
            id="declare its queue with dead letters",
        ),
        pytest.param(
            lambda t: commands.Exchange.Declare(
                exchange="new", exchange_type="fanout", arguments={"alternate-exchange": "amq.default"}
            ),
            id="declare an exchange",
        ),
        pytest.param(lambda t: commands.Exchange.Delete(exchange=wire.send_exchange(t.mine)), id="delete an exchange"),
        pytest.param(
            lambda t: commands.Queue.Bind(queue=t.mine, exchange="celery_delayed_delivery", routing_key="#"),
            id="have what waits for others",
        ),
        pytest.param(
            lambda t: commands.Queue.Bind(queue=t.mine, exchange=wire.send_exchange(t.theirs), routing_key="#"),
            id="have copies",
        ),
        pytest.param(
            lambda t: commands.Exchange.Bind(
                destination=wire.send_exchange(t.theirs), source=wire.send_exchange(t.mine), routing_key=""
            ),
            id="forward",
        ),
        pytest.param(
            lambda t: commands.Queue.Unbind(queue=t.theirs, exchange=wire.send_exchange(t.theirs), routing_key=""),
            id="cut off",
        ),
    ],
)
def test_amqp_refuses(tenants: Tenants, build: Build) -> None:
    with pytest.raises(ChannelClosedError, match="ACCESS_REFUSED"):
        asyncio.run(call(tenants, tenants.me, build(tenants)))


DELAY = "0." * 28


@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        pytest.param("", "{theirs}", id="the default exchange"),
        pytest.param("", "{mine}", id="the default exchange, to itself"),
        pytest.param("taskfleet:to:{theirs}", "{theirs}", id="the exchange of theirs"),
        pytest.param("amq.topic", "{theirs}", id="an exchange of the broker's"),
        pytest.param("celery_delayed_27", DELAY + "{theirs}", id="the delays' first exchange"),
        pytest.param("celery_delayed_delivery", DELAY + "{theirs}", id="the delays' last exchange"),
        pytest.param("taskfleet:delayed", DELAY + "{theirs}", id="the way into the delays"),
        pytest.param("taskfleet:delayed", DELAY + "x.{mine}", id="the way into the delays, with a word too many"),
        pytest.param("taskfleet.dead", "{theirs}", id="dead letters"),
    ],
)
def test_publishing_is_refused(tenants: Tenants, exchange: str, key: str) -> None:
    names = {"mine": tenants.mine, "theirs": tenants.theirs}
    before = tenants.count(tenants.theirs)
    with pytest.raises(exceptions.AMQPError, match=r"ACCESS_REFUSED|NOT_FOUND"):
        asyncio.run(publish(tenants, exchange.format(**names), key.format(**names)))
    assert tenants.count(tenants.theirs) == before


@pytest.mark.parametrize("header", ["CC", "BCC"])
@pytest.mark.parametrize("exchange", ["taskfleet:to:{mine}", "taskfleet:delayed"])
def test_further_keys_in_headers_lead_nowhere_else(tenants: Tenants, exchange: str, header: str) -> None:
    """RabbitMQ routes by the keys in these headers, too; before 4.0 without asking for rights."""
    before = tenants.count(tenants.theirs)
    keys = [tenants.theirs, DELAY + tenants.theirs]
    key = DELAY + tenants.mine if "delayed" in exchange else tenants.mine
    with contextlib.suppress(exceptions.AMQPError):
        asyncio.run(publish(tenants, exchange.format(mine=tenants.mine), key, {header: keys}))
    assert tenants.count(tenants.theirs) == before
    asyncio.run(call(tenants, tenants.me, commands.Queue.Purge(queue=tenants.mine)))


def test_what_shall_wait_goes_through_the_delays_where_rights_hold_for_all_keys(tenants: Tenants) -> None:
    sending = publish(tenants, wire.DELAY_EXCHANGE, DELAY + tenants.mine)
    if tenants.broker.name == "rabbitmq310":
        with pytest.raises(exceptions.AMQPError, match=r"ACCESS_REFUSED|NOT_FOUND"):
            asyncio.run(sending)
        return
    asyncio.run(sending)
    assert tenants.count(tenants.mine) == 1
    asyncio.run(call(tenants, tenants.me, commands.Queue.Purge(queue=tenants.mine)))


Tamper = Callable[[Tenants], Awaitable[None] | None]


def put(tenants: Tenants, path: str, body: object) -> None:
    tenants.broker.server.management("PUT", f"/api/{path}", body)


WIDE = {"configure": ".*", "write": ".*", "read": ".*"}


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda t: put(t, f"permissions/%2F/{t.me.name}", WIDE), id="rights widened"),
        pytest.param(
            lambda t: t.broker.server.management("DELETE", f"/api/permissions/%2F/{t.me.name}"), id="rights taken"
        ),
        pytest.param(lambda t: put(t, f"users/{t.me.name}", {"password": "x", "tags": t.tag}), id="password changed"),
        pytest.param(
            lambda t: put(t, f"users/{t.me.name}", {"password": t.me.password, "tags": f"{t.tag},administrator"}),
            id="made an administrator",
        ),
        pytest.param(lambda t: t.broker.server.management("DELETE", f"/api/users/{t.me.name}"), id="deleted"),
        pytest.param(
            lambda t: put(
                t, f"topic-permissions/%2F/{t.me.name}", {"exchange": "amq.topic", "write": ".*", "read": ".*"}
            ),
            id="rights at another exchange",
        ),
        pytest.param(
            lambda t: t.broker.server.management(
                "DELETE", f"/api/exchanges/%2F/{quote(wire.send_exchange(t.mine), safe='')}"
            ),
            id="exchange deleted",
        ),
    ],
)
def test_what_somebody_changed_is_put_right(tenants: Tenants, tamper: Tamper) -> None:
    kinds = ("permissions", "topic-permissions")
    before = [tenants.row(kind, tenants.me) for kind in kinds]
    tamper(tenants)

    async def repair() -> list[str]:
        async with using(tenants.broker) as users:
            return await users.ensure(tenants.all, tenants.tag)

    assert asyncio.run(repair()) == [tenants.me.name]
    assert asyncio.run(repair()) == []
    assert [tenants.row(kind, tenants.me) for kind in kinds] == before
    test_it_sends_to_its_queue_and_takes_from_it(tenants)


def test_only_ones_own_users_are_removed_and_their_connections_end(tenants: Tenants) -> None:
    """What has another's tag, or none, stays, whatever its name."""
    gone, other = QueueUser("taskfleet.team.gone.1", "p", ()), QueueUser("taskfleet.team.gone.2", "p", ())
    put(tenants, "users/taskfleet.by-hand", {"password": "x", "tags": "taskfleet"})

    async def collect() -> list[str]:
        async with using(tenants.broker) as users:
            await users.ensure([gone], tenants.tag)
            await users.ensure([other], "taskfleet-another-operator")
            (address,) = parse_amqp_url(tenants.url_of(gone))
            session = await connect_amqp(AmqpSession, address, 10)
            removed, _ = await users.collect({user.name for user in tenants.all}, tenants.tag)
            await asyncio.wait_for(asyncio.shield(session.lost), 10)
            return removed

    assert asyncio.run(collect()) == [gone.name]
    names = {row["name"] for row in tenants.broker.server.management("GET", "/api/users")}
    assert {other.name, "taskfleet.by-hand", "guest", *(user.name for user in tenants.all)} <= names
    for name in (other.name, "taskfleet.by-hand"):
        tenants.broker.server.management("DELETE", f"/api/users/{name}")


def test_without_the_right_to_manage_users_it_says_so(tenants: Tenants) -> None:
    put(tenants, "users/policymaker", {"password": "p", "tags": "policymaker"})

    async def ensure(login: str) -> None:
        async with using(tenants.broker, login) as users:
            await users.ensure(tenants.all, tenants.tag)

    with pytest.raises(LoginRefusedError, match=r"does not let this login|refuses the login"):
        asyncio.run(ensure("policymaker:p"))
    with pytest.raises(LoginRefusedError, match="refuses the login"):
        asyncio.run(ensure("guest:wrong"))


def test_a_broker_that_is_away_is_unavailable() -> None:
    async def ensure() -> None:
        (address,) = parse_amqp_url("amqp://127.0.0.1:1//")
        users = QueueUsers("http://a:b@127.0.0.1:1", address)
        try:
            await users.ensure([], "tag")
        finally:
            await users.close()

    with pytest.raises(BrokerUnavailableError, match="does not answer"):
        asyncio.run(ensure())
