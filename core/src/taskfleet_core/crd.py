"""Builds the CustomResourceDefinitions of `TaskQueue` and `TaskQueuePolicy` from the pydantic models. Pure: returns
plain dictionaries.

Kubernetes wants a structural schema: no `$ref`, no `anyOf` with null, defaults spelled out at every level, and the
cross-field rules as CEL. Everything that a person reads in `kubectl explain` comes from the model's descriptions.
"""

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel

from taskfleet_core.policy import TaskQueuePolicy, TaskQueuePolicySpec, TaskQueuePolicyStatus
from taskfleet_core.taskqueue import (
    GROUP,
    KIND,
    NAME_MAX_LENGTH,
    OBJECT_NAME_PATTERN,
    POLICY_KIND,
    Rule,
    TaskQueue,
    TaskQueueSpec,
    TaskQueueStatus,
)

__all__ = ["build_crd", "build_policy_crd"]

VERSION = "v1alpha1"
PLURAL = "taskqueues"
POLICY_PLURAL = "taskqueuepolicies"

OPEN_LISTS = {"env", "envFrom"}  # Kubernetes defines their content: checked when the pod template is applied
MAX_ITEMS = 64  # bounds what a CEL rule may cost
MAX_TEXT = 253

COLUMNS = (
    ("Status", "string", '.status.conditions[?(@.type=="Ready")].reason', "Reconciled, or what is wrong", 0),
    ("Replicas", "integer", ".status.replicas", "Worker pods that exist", 0),
    ("Desired", "integer", ".status.desiredReplicas", "Worker pods that the rule wants", 0),
    ("Ready", "integer", ".status.readyReplicas", "Worker pods that consume", 0),
    ("Waiting", "integer", ".status.messages.ready", "Tasks that wait in the queue", 0),
    ("Mode", "string", ".spec.scaling.mode", "Active, DryRun or External", 0),
    ("Age", "date", ".metadata.creationTimestamp", "", 0),
    ("Target", "number", ".spec.scaling.targetWaitSeconds", "Seconds that a task may wait", 1),
    ("Scaling", "string", '.status.conditions[?(@.type=="ScalingActive")].reason', "Who decides on replicas", 1),
    ("Reason", "string", ".status.lastScaleReason", "Why the replicas are what they are", 1),
    ("Image", "string", ".spec.worker.image", "Image of the workers", 1),
)


POLICY_COLUMNS = (
    ("Limit", "integer", ".spec.maxReplicas", "Worker pods allowed", 0),
    ("Used", "integer", ".status.used", "Worker pods that exist or were asked for", 0),
    ("Wanted", "integer", ".status.wanted", "Worker pods that the scaling rules want", 0),
    ("Queues", "integer", ".status.queues", "TaskQueues that share the limit", 0),
    ("Age", "date", ".metadata.creationTimestamp", "", 0),
)


def build_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of TaskQueue, ready to be written as YAML."""
    version = {
        **_start_version(COLUMNS),
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.scaling.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "schema": {"openAPIV3Schema": _build_root()},
    }
    return _build_definition(KIND, PLURAL, "tq", version)


def build_policy_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of TaskQueuePolicy."""
    spec = _build_model(TaskQueuePolicySpec)
    spec["description"] = _describe(TaskQueuePolicy, "spec")
    status = _widen(_build_model(TaskQueuePolicyStatus))
    status["description"] = _describe(TaskQueuePolicy, "status")
    version = {
        **_start_version(POLICY_COLUMNS),
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": _build_object_schema(TaskQueuePolicy, POLICY_KIND, spec, status)},
    }
    return _build_definition(POLICY_KIND, POLICY_PLURAL, "tqp", version)


def _build_definition(kind: str, plural: str, short: str, version: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "plural": plural,
                "singular": kind.lower(),
                "kind": kind,
                "listKind": f"{kind}List",
                "shortNames": [short],
                "categories": ["taskfleet"],
            },
            "versions": [version],
        },
    }


def _start_version(columns: Iterable[tuple[str, str, str, str, int]]) -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [_build_column(*column) for column in columns],
    }


def _build_column(name: str, kind: str, path: str, description: str, priority: int) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    if priority:
        column["priority"] = priority
    return column


def _build_root() -> dict[str, Any]:
    spec = _build_model(TaskQueueSpec)
    spec["description"] = _describe(TaskQueue, "spec")
    spec["x-kubernetes-validations"] = [
        *spec.get("x-kubernetes-validations", []),
        {
            "rule": "has(self.queueName) == has(oldSelf.queueName) && "
            "(!has(self.queueName) || self.queueName == oldSelf.queueName)",
            "message": "queueName is immutable: make a new TaskQueue for another queue",
            "fieldPath": ".queueName",
        },
    ]
    spec["properties"]["worker"]["required"].append("image")  # optional only where the app runs as a process
    spec["properties"]["worker"]["properties"]["image"].pop("nullable")
    status = _widen(_build_model(TaskQueueStatus))
    status["description"] = _describe(TaskQueue, "status")
    root = _build_object_schema(TaskQueue, KIND, spec, status)
    root["x-kubernetes-validations"] = [
        {
            "rule": f"size(self.metadata.name) <= {NAME_MAX_LENGTH}",
            "message": f"metadata.name must have at most {NAME_MAX_LENGTH} characters: "
            "the names of the children are made from it",
        },
        {
            "rule": f"self.metadata.name.matches('{OBJECT_NAME_PATTERN}')",
            "message": "metadata.name must be of lower-case letters, digits and inner dashes, without dots: "
            "it becomes a label and the queue's name",
        },
    ]
    return root


def _build_object_schema(
    model: type[BaseModel], kind: str, spec: dict[str, Any], status: dict[str, Any]
) -> dict[str, Any]:
    """The schema of a whole object."""
    return {
        "type": "object",
        "description": (model.__doc__ or "").strip(),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of the schema of this object."},
            "kind": {"type": "string", "description": f"Always {kind}."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status,
        },
    }


def _widen(schema: dict[str, Any]) -> dict[str, Any]:
    """The status has no rules whose cost needs bounds, and a message that is cut or refused helps nobody."""
    kind = schema.get("type")
    if kind == "integer":
        schema["format"] = "int64"
    elif kind == "string":
        schema.pop("maxLength", None)
    for name, child in schema.get("properties", {}).items():
        if name.endswith("Time"):
            child["format"] = "date-time"
        _widen(child)
    if "items" in schema:
        _widen(schema["items"])
    return schema


def _describe(model: type[BaseModel], field: str) -> str:
    return model.model_fields[field].description or ""


def _build_model(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of one model, its nested models in place."""
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    models = _collect_models(model)
    for name, each in models.items():
        _spell_out_defaults(schema if name == model.__name__ else definitions[name], each)
    return _structural(schema, definitions, models)


def _spell_out_defaults(node: dict[str, Any], model: type[BaseModel]) -> None:
    """Defaults that pydantic makes by a factory are not in its JSON schema; lists and mappings are added here."""
    for name, field in model.model_fields.items():
        if field.default_factory is None:
            continue
        value = field.get_default(call_default_factory=True)
        if isinstance(value, (list, dict)):
            node["properties"][field.alias or name]["default"] = value


def _collect_models(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """All models by the name that pydantic gives their definitions."""
    found: dict[str, type[BaseModel]] = {model.__name__: model}
    for field in model.model_fields.values():
        pending = [field.annotation]
        while pending:
            annotation = pending.pop()
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                found |= _collect_models(annotation) if annotation.__name__ not in found else {}
            pending.extend(get_args(annotation))
    return found


def _structural(
    node: dict[str, Any], definitions: dict[str, Any], models: dict[str, type[BaseModel]]
) -> dict[str, Any]:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        return {**_structural(definitions[name], definitions, models), **_kept(node)}
    if "anyOf" in node:  # the only union in the model: a value or null
        inner = next(option for option in node["anyOf"] if option.get("type") != "null")
        result = {**_structural(inner, definitions, models), **_kept(node), "nullable": True}
        result.pop("default", None)
        return result
    result = _kept(node)
    kind = result["type"] = node.get("type", "string")
    if kind == "object":
        result |= _build_object(node, definitions, models)
    elif kind == "array":
        result["items"] = _structural(node["items"], definitions, models)
        result.setdefault("maxItems", MAX_ITEMS)
    elif kind == "string" and "enum" not in result:
        result.setdefault("maxLength", MAX_TEXT)
    if kind == "integer":
        result["format"] = "int32"
    return result


def _kept(node: dict[str, Any]) -> dict[str, Any]:
    names = (
        "description",
        "default",
        "enum",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
    )
    result = {name: node[name] for name in names if name in node}
    if "const" in node:
        result["enum"] = [node["const"]]
    if "exclusiveMinimum" in node:
        result |= {"minimum": node["exclusiveMinimum"], "exclusiveMinimum": True}
    if "description" in result:
        text = " ".join(result["description"].split())
        result["description"] = _add_default(text, result.get("default"))
    return result


def _add_default(text: str, default: Any) -> str:
    """`kubectl explain` shows no defaults: the description tells them."""
    if default is None or default == "" or isinstance(default, (list, dict)):
        return text
    value = str(default).lower() if isinstance(default, bool) else default
    return f"{text.rstrip('.')}. Default: {value}."


def _build_object(
    node: dict[str, Any], definitions: dict[str, Any], models: dict[str, type[BaseModel]]
) -> dict[str, Any]:
    values = node.get("additionalProperties")
    if isinstance(values, dict) and values.get("type") == "string":  # a mapping of texts, such as labels
        return {"additionalProperties": _structural(values, definitions, models), "maxProperties": MAX_ITEMS}
    if "properties" not in node:  # a free-form mapping
        return {"x-kubernetes-preserve-unknown-fields": True}
    result: dict[str, Any] = {}
    properties = {}
    for name, child in node["properties"].items():
        properties[name] = _build_property(name, _structural(child, definitions, models))
    result["properties"] = properties
    if node.get("required"):
        result["required"] = list(node["required"])
    rules = models[node["title"]].RULES if node.get("title") in models else ()  # type: ignore[attr-defined] # on DocumentModel
    if rules:
        result["x-kubernetes-validations"] = [_build_rule(rule, properties) for rule in rules]
    return result


def _build_property(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if name in OPEN_LISTS:
        schema["items"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        if name == "env":
            schema["items"] |= {
                "properties": {"name": {"type": "string", "maxLength": MAX_TEXT}},
                "required": ["name"],
            }
    if name == "conditions":
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    nested = schema["type"] == "object" and "properties" in schema
    if nested and not schema.get("required") and not schema.get("nullable"):
        # CEL and readers see nested defaults only where every level spells out its own.
        schema["default"] = {key: value["default"] for key, value in schema["properties"].items() if "default" in value}
    return schema


def _build_rule(rule: Rule, properties: dict[str, Any]) -> dict[str, Any]:
    result = {"rule": rule.cel, "message": rule.fix}
    if rule.field in properties:
        result["fieldPath"] = f".{rule.field}"
    return result
