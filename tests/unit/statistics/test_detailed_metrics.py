"""Reading `/metrics/detailed`: what the text does not say is None."""

from taskfleet_core.statistics.rabbitmq_http import parse_detailed_metrics

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


def test_counters_of_all_exchanges_are_added_up() -> None:
    busy = parse_detailed_metrics(VERSION_4, 1.0)["busy"]
    assert (busy.ready, busy.unacknowledged, busy.consumers) == (4, 1, 2)
    assert (busy.published, busy.acknowledged, busy.at) == (12, 7, 1.0)


def test_a_queue_without_traffic_has_counted_nothing_where_counters_exist() -> None:
    new = parse_detailed_metrics(VERSION_4, 1.0)["new"]
    assert (new.published, new.acknowledged, new.consumers) == (0, 0, None)


def test_without_counters_per_queue_they_are_unknown() -> None:
    version_3 = "\n".join(line for line in VERSION_4.splitlines() if "_info" not in line)
    busy = parse_detailed_metrics(version_3, 1.0)["busy"]
    assert (busy.published, busy.acknowledged) == (None, None)


def test_half_a_queue_is_no_queue() -> None:
    assert parse_detailed_metrics('rabbitmq_detailed_queue_messages_ready{vhost="/",queue="q"} 4\n', 1.0) == {}


def test_names_may_hold_anything() -> None:
    text = (
        'rabbitmq_detailed_queue_messages_ready{vhost="a,queue=b",queue="q\\"x\\\\y,queue=\\"z"} 1\n'
        'rabbitmq_detailed_queue_messages_unacked{queue="q\\"x\\\\y,queue=\\"z",vhost="v"} 2e0\n'
    )
    assert list(parse_detailed_metrics(text, 1.0)) == ['q"x\\y,queue="z']
