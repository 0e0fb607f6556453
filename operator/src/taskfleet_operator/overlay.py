"""Strategic merge of a pod template overlay: what `spec.worker.template` says wins over what the operator builds."""

from typing import Any

__all__ = ["merge"]

# The keys by which Kubernetes itself merges these lists; any other list is replaced as a whole.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}


def merge(base: Any, patch: Any, field: str = "") -> Any:
    """The merged value: mappings by key, known lists by their merge key, null deletes, anything else replaces."""
    if isinstance(base, dict) and isinstance(patch, dict):
        merged = dict(base)
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = merge(base.get(key), value, key)
        return merged
    if isinstance(base, list) and isinstance(patch, list) and field in MERGE_KEYS:
        return _merge_list(base, patch, MERGE_KEYS[field], field)
    if isinstance(patch, dict):  # nothing to merge with: nulls still mean absence
        return {key: merge(None, value, key) for key, value in patch.items() if value is not None}
    return patch


def _merge_list(base: list[Any], patch: list[Any], key: str, field: str) -> list[Any]:
    result = list(base)
    places = {item.get(key): index for index, item in enumerate(base) if isinstance(item, dict)}
    for item in patch:
        place = places.get(item.get(key)) if isinstance(item, dict) else None
        if place is None:
            result.append(merge(None, item, field))
        elif item.get("$patch") == "delete":
            result[place] = None
        else:
            result[place] = merge(result[place], item, field)
    return [item for item in result if item is not None]
