"""Running operators for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.controlplane.operators import OperatorProcess
from tests.controlplane.rights import bind_rights
from tests.support.brokers import Valkey
from tests.support.controlplane import ControlPlane


@pytest.fixture(scope="module")
def namespace(control_plane: ControlPlane) -> str:
    """One namespace for all tests of a module."""
    return control_plane.make_namespace("m")


@pytest.fixture(scope="module")
def operator(
    control_plane: ControlPlane, valkey: Valkey, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """An operator of the module's namespace with no more rights than it needs, shared by the module's tests."""
    folder: Path = tmp_path_factory.mktemp("operator")
    kubeconfig = bind_rights(control_plane, namespace)
    # Nobody takes over here: what the machine does besides shall not cost the leadership.
    process = OperatorProcess(control_plane, valkey, folder, namespace, namespace, kubeconfig, lease_seconds=60).start()
    yield process
    process.kill()
