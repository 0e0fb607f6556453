"""The user's pod template over the operator's."""

import pytest

from taskfleet_operator.overlay import merge


@pytest.mark.parametrize(
    ("base", "patch", "expected"),
    [
        pytest.param({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}, id="a value replaces"),
        pytest.param({"a": 1, "b": 2}, {"b": None}, {"a": 1}, id="null deletes"),
        pytest.param({"x": {"a": 1}}, {"x": {"b": {"c": None, "d": 1}}}, {"x": {"a": 1, "b": {"d": 1}}}, id="deep"),
        pytest.param(
            {"containers": [{"name": "worker", "image": "a", "env": [{"name": "A", "value": "1"}]}]},
            {"containers": [{"name": "worker", "env": [{"name": "B", "value": "2"}]}, {"name": "side"}]},
            {
                "containers": [
                    {"name": "worker", "image": "a", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                    {"name": "side"},
                ]
            },
            id="containers and variables by name",
        ),
        pytest.param({"tolerations": [{"key": "a"}]}, {"tolerations": []}, {"tolerations": []}, id="other lists whole"),
        pytest.param(
            {"volumes": [{"name": "a"}, {"name": "b"}]},
            {"volumes": [{"name": "a", "$patch": "delete"}]},
            {"volumes": [{"name": "b"}]},
            id="an entry is deleted",
        ),
    ],
)
def test_merge_as_kubernetes_does(base, patch, expected):
    """The rules of strategic merge."""
    assert merge(base, patch) == expected
