"""The base of a Kubernetes document's models: camelCase on the wire, strict types, rules over several fields."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

__all__ = ["DocumentModel", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields of one object: the field to blame, the CEL form for the CRD, the check, the fix."""

    field: str
    cel: str
    holds: Callable[[Any], bool]
    fix: str


class DocumentModel(BaseModel):
    """Frozen; unknown fields are refused, and every rule is checked."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,  # as Kubernetes: "4" is no number
    )
    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.RULES:
            if not rule.holds(self):
                raise PydanticCustomError("rule", "{fix}", {"field": rule.field, "fix": rule.fix})
        return self
