"""What counts as drift between a wanted object and the one in Kubernetes."""

import pytest

from taskfleet_operator.comparing import get_stored_form, is_covered

WANTED = {
    "containers": [{"name": "worker", "image": "a:1", "command": ["celery"], "env": [{"name": "A", "value": "1"}]}]
}


def change(**fields):
    """The wanted containers as stored, with changes to the first."""
    return {"containers": [{**WANTED["containers"][0], **fields}]}


@pytest.mark.parametrize(
    ("actual", "covered"),
    [
        pytest.param(WANTED, True, id="equal"),
        pytest.param(change(imagePullPolicy="Always"), True, id="default filled in"),
        pytest.param({"containers": [{"name": "mesh"}, *WANTED["containers"]]}, True, id="another's container"),
        pytest.param(change(env=[{"name": "B"}, {"name": "A", "value": "1"}]), True, id="another's variable"),
        pytest.param(change(image="a:2"), False, id="other image"),
        pytest.param(change(env=[{"name": "A", "value": "2"}]), False, id="other value"),
        pytest.param(change(env=[]), False, id="variable taken away"),
        pytest.param(change(command=["celery", "worker"]), False, id="longer command"),
        pytest.param({"containers": [{"name": "other"}]}, False, id="container renamed"),
        pytest.param({}, False, id="nothing there"),
    ],
)
def test_drift(actual, covered):
    assert is_covered(WANTED, actual) is covered


def test_stored_form_is_the_servers_spelling():
    wanted = {"resources": {"limits": {"cpu": "1000m"}}, "env": [{"name": "A", "value": ""}], "tolerations": []}
    answer = {"resources": {"limits": {"cpu": "1"}}, "env": [{"name": "M"}, {"name": "A"}], "dnsPolicy": "Default"}
    stored = get_stored_form(wanted, answer)
    assert stored == {"resources": {"limits": {"cpu": "1"}}, "env": [{"name": "A"}]}
    assert is_covered(stored, answer)
    assert not is_covered(stored, {**answer, "resources": {"limits": {"cpu": "2"}}})
