"""Strikes that bring another version: the release upgraded and rolled back, before its CRDs or after them."""

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.faults.cluster_ground import ROOT, ClusterGround
from tests.faults.generator import QUEUE
from tests.faults.striking import Field, Strike
from tests.support.cluster import RELEASE, Json
from tests.support.waiting import eventually_sync

__all__ = ["roll_back", "upgrade"]

BETWEEN = 60  # accepted while CRDs and release are of two versions
TASK_SECONDS = 0.15  # long enough that a worker which is replaced has some under way
ROLLOUT_SECONDS = 300
TIMEOUT = "5m"  # of helm
PARTS = {
    "api": "API",
    "operator": "operator",
    "rabbitmq": "RabbitMQ",
    "valkey": "Valkey",
    "postgresql": "PostgreSQL",
    "worker": "workers",
}
Step = Callable[[ClusterGround], None]


def upgrade(*, crds_first: bool) -> Strike:
    """From the version before to this one, as docs/install.md says."""
    return _change(True, [_apply_crds, _upgrade_release] if crds_first else [_upgrade_release, _apply_crds])


def roll_back(*, crds_first: bool) -> Strike:
    """`helm rollback` to the version before."""
    return _change(False, [_revert_crds, _roll_release_back] if crds_first else [_roll_release_back, _revert_crds])


def _apply_crds(ground: ClusterGround) -> None:
    ground.cluster.apply_crds(ROOT)


def _revert_crds(ground: ClusterGround) -> None:
    ground.cluster.apply_crds(ground.sources)


def _upgrade_release(ground: ClusterGround) -> None:
    options = ["--reset-then-reuse-values", "--set", "image.tag=dev", "--wait", "--timeout", TIMEOUT]
    ground.cluster.helm("upgrade", RELEASE, str(ROOT / "charts/taskfleet"), *options)


def _roll_release_back(ground: ClusterGround) -> None:
    ground.cluster.helm("rollback", RELEASE, "1", "--wait", "--timeout", TIMEOUT)


def _change(to_this: bool, steps: list[Step]) -> Strike:
    """The steps, with load between them; then the operator rolls the workers."""

    def strike(field: Field) -> None:
        ground: ClusterGround = field.stack
        _ensure_other(ground, to_this)
        field.load.task_seconds = TASK_SECONDS
        before = _find_parts(ground)
        first, second = steps
        first(ground)
        field.load.wait_accepted(BETWEEN)
        second(ground)
        field.lift()
        _wait_rolled(ground, before["worker"])
        field.facts["pods"] = _compare(before, _find_parts(ground))

    return strike


def _ensure_other(ground: ClusterGround, to_this: bool) -> None:
    """A cell that is run alone begins with the version that it leaves."""
    tag = ground.find_component("operator")[0]["spec"]["containers"][0]["image"].rsplit(":", 1)[1]
    if (tag == "dev") == to_this:
        before = _find_parts(ground)["worker"]
        for step in (_roll_release_back, _revert_crds) if to_this else (_apply_crds, _upgrade_release):
            step(ground)
        _wait_rolled(ground, before)


def _wait_rolled(ground: ClusterGround, before: Mapping[str, Json]) -> None:
    """Until all workers have another package than before, if there is another one, and none is on its way in or out."""
    if _read_worker(ROOT) == _read_worker(ground.sources):
        return
    old = {_injected(pod) for pod in before.values()}

    def is_rolled() -> bool:
        pods = ground.cluster.find("pods", f"taskfleet.dev/queue={QUEUE}")
        present = {_injected(pod) for pod in pods}
        return len(present) == 1 and not present & old

    eventually_sync(is_rolled, ROLLOUT_SECONDS, 1)


def _read_worker(sources: Path) -> dict[str, bytes]:
    """The package that is injected into workers."""
    folder = sources / "worker" / "src"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.py")}


def _injected(pod: Json) -> str:
    """The ConfigMap with the worker package."""
    return next(volume["configMap"]["name"] for volume in pod["spec"]["volumes"] if volume["name"] == "taskfleet")


def _find_parts(ground: ClusterGround) -> dict[str, dict[str, Json]]:
    """The pods of each part by uid."""
    found = {name: ground.find_component(name) for name in PARTS if name != "worker"}
    found["worker"] = ground.cluster.pods(QUEUE)
    return {
        name: {pod["metadata"]["uid"]: pod for pod in pods if "deletionTimestamp" not in pod["metadata"]}
        for name, pods in found.items()
    }


def _compare(before: Mapping[str, Mapping[str, Json]], after: Mapping[str, Mapping[str, Json]]) -> str:
    """Which pods were replaced, by what changed in them, and which stayed."""
    replaced, kept, restarted = [], [], []
    for name, title in PARTS.items():
        new = after[name].keys() - before[name].keys()
        if new:
            changes = _find_changes(next(iter(before[name].values())), after[name][new.pop()])
            replaced.append(f"{title} ({', '.join(changes) or 'without a change'})")
        elif _count_restarts(before[name]) != _count_restarts(after[name]):
            restarted.append(title)
        else:
            kept.append(title)
    parts = {"Replaced": replaced, "Restarted in their place": restarted, "Not touched": kept}
    return " ".join(f"{what}: {', '.join(titles)}." for what, titles in parts.items() if titles)


def _find_changes(old: Json, new: Json) -> list[str]:
    """What of a pod's template differs."""
    looks: dict[str, Callable[[Json], object]] = {
        "image": lambda pod: [container["image"] for container in pod["spec"]["containers"]],
        "command": lambda pod: [[c.get("command"), c.get("args")] for c in pod["spec"]["containers"]],
        "variables": lambda pod: [container.get("env") for container in pod["spec"]["containers"]],
        "annotations": lambda pod: pod["metadata"].get("annotations"),
        "labels": lambda pod: {**pod["metadata"]["labels"], **_VARIES},
        "volumes": lambda pod: [v for v in pod["spec"]["volumes"] if not v["name"].startswith("kube-api-access")],
    }
    return [what for what, look in looks.items() if look(old) != look(new)]


# Labels that say which pod it is.
_VARIES = {"pod-template-hash": "", "controller-revision-hash": "", "apps.kubernetes.io/pod-index": ""}


def _count_restarts(pods: Mapping[str, Json]) -> int:
    return sum(each["restartCount"] for pod in pods.values() for each in pod["status"]["containerStatuses"])
