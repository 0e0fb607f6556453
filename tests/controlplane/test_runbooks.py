"""What the runbooks ask of Kubernetes, asked of a real API server."""

from tests.controlplane.operators import OperatorProcess, get_condition
from tests.controlplane.samples import build_task_queue, create
from tests.support.controlplane import ControlPlane
from tests.support.runbooks import find_commands
from tests.support.waiting import eventually_sync

NEEDS_PODS = ("deployment/",)  # of the operator, which is no pod here


def test_the_commands_of_the_runbooks_are_answered(
    control_plane: ControlPlane, operator: OperatorProcess, namespace: str
) -> None:
    create(control_plane, build_task_queue(namespace, "slow"))
    eventually_sync(lambda: get_condition(control_plane, namespace, "slow").get("status") == "True", 60)
    commands = find_commands("kubectl", NS=namespace, QUEUE="slow", taskfleet=namespace)
    assert len(commands) >= 6
    for words in commands:
        if not any(word.startswith(NEEDS_PODS) for word in words):
            control_plane.kubectl(*words)
