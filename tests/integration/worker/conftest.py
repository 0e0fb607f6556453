"""Fixtures of the worker's tests: one worker per pool and module."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.worker.harness import Bench
from tests.support.brokers import RabbitMQ, Valkey


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for logs and traces of one module."""
    return tmp_path_factory.mktemp("worker")


@pytest.fixture
def bench(rabbitmq43: RabbitMQ, valkey: Valkey, tmp_path: Path) -> Iterator[Bench]:
    """A fresh queue on RabbitMQ, without a worker."""
    made = Bench(rabbitmq43, valkey, tmp_path)
    yield made
    made.close()
