"""Reading `/metrics/detailed`: what the text does not say is None."""

from taskfleet_core.statistics import QueueStatistics
from taskfleet_core.statistics.rabbitmq_http import merge_nodes, parse_detailed_metrics

VERSION_4 = """\
# TYPE rabbitmq_detailed_queue_messages_ready gauge
rabbitmq_detailed_queue_messages_ready{vhost="/",queue="busy"} 4
rabbitmq_detailed_queue_messages_ready{vhost="/",queue="new"} 0
rabbitmq_detailed_queue_messages_unacked{vhost="/",queue="busy"} 1
rabbitmq_detailed_queue_messages_unacked{vhost="/",queue="new"} 0
rabbitmq_detailed_queue_messages{vhost="/",queue="busy"} 5
rabbitmq_detailed_queue_consumers{vhost="/",queue="busy"} 2
rabbitmq_detailed_queue_messages_acked_total{vhost="/",queue="busy"} 7
rabbitmq_detailed_queue_exchange_messages_published_total{vhost="/",exchange="",queue="busy"} 10
rabbitmq_detailed_queue_exchange_messages_published_total{vhost="/",exchange="topic",queue="busy"} 2
rabbitmq_detailed_queue_info{vhost="/",queue="busy",queue_type="rabbit_quorum_queue",membership="leader"} 1
"""


def read(*texts: str) -> dict[str, QueueStatistics]:
    return merge_nodes([parse_detailed_metrics(text, 1.0) for text in texts])


def test_counters_of_all_exchanges_are_added_up() -> None:
    busy = read(VERSION_4)["busy"]
    assert (busy.ready, busy.unacknowledged, busy.consumers) == (4, 1, 2)
    assert (busy.published, busy.acknowledged, busy.at) == (12, 7, 1.0)


def test_a_queue_without_traffic_has_counted_nothing_where_counters_exist() -> None:
    new = read(VERSION_4)["new"]
    assert (new.published, new.acknowledged, new.consumers) == (0, 0, None)


def test_without_counters_per_queue_they_are_unknown() -> None:
    version_3 = "\n".join(line for line in VERSION_4.splitlines() if "_info" not in line)
    busy = read(version_3)["busy"]
    assert (busy.published, busy.acknowledged) == (None, None)


def test_half_a_queue_is_no_queue() -> None:
    assert read('rabbitmq_detailed_queue_messages_ready{vhost="/",queue="q"} 4\n') == {}


def test_names_may_hold_anything() -> None:
    text = (
        'rabbitmq_detailed_queue_messages_ready{vhost="a,queue=b",queue="q\\"x\\\\y,queue=\\"z"} 1\n'
        'rabbitmq_detailed_queue_messages_unacked{queue="q\\"x\\\\y,queue=\\"z",vhost="v"} 2e0\n'
    )
    assert list(read(text)) == ['q"x\\y,queue="z']


def build_node(ready: int, published: int, membership: str) -> str:
    return VERSION_4_NODE.format(ready=ready, published=published, membership=membership)


VERSION_4_NODE = """\
rabbitmq_detailed_queue_messages_ready{{vhost="/",queue="q"}} {ready}
rabbitmq_detailed_queue_messages_unacked{{vhost="/",queue="q"}} 0
rabbitmq_detailed_queue_exchange_messages_published_total{{vhost="/",exchange="",queue="q"}} {published}
rabbitmq_detailed_queue_info{{vhost="/",queue="q",queue_type="rabbit_quorum_queue",membership="{membership}"}} 1
"""


def test_the_leader_tells_the_depth_and_every_node_its_own_counters() -> None:
    """A node that led the queue before may show an old depth for a while."""
    merged = read(build_node(9, 5, "follower"), build_node(2, 7, "leader"))["q"]
    assert (merged.ready, merged.published) == (2, 12)


def test_a_node_that_falls_silent_does_not_turn_counters_back() -> None:
    """Its queues are unknown until another node leads them."""
    leader, silent = (
        parse_detailed_metrics(text, 1.0) for text in (build_node(2, 7, "leader"), build_node(0, 5, "follower"))
    )
    assert merge_nodes([leader], [silent])["q"].published == 12
    assert merge_nodes([], [leader]) == {}
