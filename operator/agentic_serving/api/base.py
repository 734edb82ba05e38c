"""What all API types share: frozen models, bounded strings, metadata, conditions, references.

Every list, map and string has a bound: the API server refuses CEL rules over unbounded data, and a status
that can grow without end is an outage in waiting.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, AliasGenerator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from agentic_serving.api.quantities import parse_bytes, parse_duration
from agentic_serving.errors import InvalidInput

__all__ = [
    "SERVICE_NAME",
    "SHORT_NAME",
    "ApiModel",
    "ApiObject",
    "CelRule",
    "Condition",
    "Conditions",
    "Count",
    "DnsLabel",
    "DnsSubdomain",
    "DurationString",
    "Generation",
    "HeaderName",
    "HoldString",
    "LocalReference",
    "ObjectMeta",
    "QuantityString",
]

#: A name usable as a DNS-1123 label (RFC 1123).
DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
#: A name usable as a DNS-1123 subdomain: what most objects may be called.
DnsSubdomain = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


def _bounded(inside_of: Callable[[str], bool], message: str) -> AfterValidator:
    """Refuses what the pattern cannot: the Python half of the CEL rule beside it."""

    def check(text: str) -> str:
        try:
            inside = inside_of(text)
        except InvalidInput:  # beyond what Kubernetes can count
            inside = False
        if not inside:
            raise PydanticCustomError("out_of_range", "{message}", {"message": message})
        return text

    return AfterValidator(check)


def _cel(rule: str, message: str) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": rule, "message": message}]}


_DURATION_MESSAGE = "must be longer than 0, such as 30s or 1h30m"
_LONGEST_HOLD_S = 600
_HOLD_MESSAGE = "must be at most 10m, after which clients give up; 0s holds nothing"
_QUANTITY_MESSAGE = "must be more than 0 and less than 1Ei, such as 100Gi"

#: A Gateway API duration (GEP-2257) above zero: `30s`, `5m`, `1h30m`.
DurationString = Annotated[
    str,
    Field(
        min_length=2,
        max_length=24,
        pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        json_schema_extra=_cel("duration(self) > duration('0s')", _DURATION_MESSAGE),
    ),
    _bounded(lambda text: parse_duration(text) > 0, _DURATION_MESSAGE),
]
#: How long a turn may be held. 10 minutes is when the SDKs of OpenAI and Anthropic give up.
HoldString = Annotated[
    str,
    Field(
        min_length=2,
        max_length=24,
        pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$",
        json_schema_extra=_cel("duration(self) <= duration('10m')", _HOLD_MESSAGE),
    ),
    _bounded(lambda text: parse_duration(text) <= _LONGEST_HOLD_S, _HOLD_MESSAGE),
]
#: A Kubernetes quantity of bytes above zero, as a string: `100Gi`, `500G`. Below 1Ei, since Kubernetes caps
#: quantities at 2^63 - 1 without a word.
QuantityString = Annotated[
    str,
    Field(
        min_length=1,
        max_length=24,
        pattern=r"^[0-9]{1,15}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$",
        json_schema_extra=_cel(
            "quantity(self).isGreaterThan(quantity('0')) && quantity(self).isLessThan(quantity('1Ei'))",
            _QUANTITY_MESSAGE,
        ),
    ),
    _bounded(lambda text: 0 < parse_bytes(text) < 2**60, _QUANTITY_MESSAGE),
]
#: An HTTP header's name (RFC 9110 token, in lower case or not).
HeaderName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")]
#: How many of something; int32, as Kubernetes counts.
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
#: A `metadata.generation`; int64, as Kubernetes counts.
Generation = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CelRule:
    """A cross-field rule, said twice: in CEL for the API server and in Python for the CLI and the operator.

    The two are held together by one table of good and bad objects that tests run through both.
    A model lists its rules in the class variable `cel_rules`.

    Attributes:
        cel: the rule in CEL; `self` is the object that carries it.
        holds: the same rule over the pydantic object.
        message: what to do, as one sentence without the field's name.
        field_path: the field the message is about, in JSONPath from `self` (`.replicas`), or empty.
    """

    cel: str
    holds: Callable[[Any], bool]
    message: str
    field_path: str = ""

    def to_dict(self) -> dict[str, str]:
        """The rule as an entry of `x-kubernetes-validations`.

        The API server refuses a `fieldPath` into `metadata`, whose schema a CRD does not hold.
        """
        entry = {"rule": self.cel, "message": self.message}
        if self.field_path and not self.field_path.startswith(".metadata"):
            entry["fieldPath"] = self.field_path
        return entry


class ApiModel(BaseModel):
    """Base of every API type: immutable, camelCase on the wire, unknown fields ignored.

    Objects read from the API server may carry fields of a newer CRD; they are ignored and reported
    (`findings.unknown_fields`). The CLI refuses them.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=AliasGenerator(alias=to_camel),
        populate_by_name=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    #: Cross-field rules of this type; they become `x-kubernetes-validations`.
    cel_rules: ClassVar[tuple[CelRule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Carries the cross-field rules into the schema."""
        schema = handler(core_schema)
        if cls.cel_rules:
            handler.resolve_ref_schema(schema)["x-kubernetes-validations"] = [
                r.to_dict() for r in cls.cel_rules
            ]
        return schema


class ObjectMeta(ApiModel):
    """The part of `metadata` that the operator reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class ApiObject(ApiModel):
    """Base of the kinds themselves."""

    metadata: ObjectMeta


#: For objects whose name becomes a label value.
SHORT_NAME = CelRule(
    cel="self.metadata.name.size() <= 63",
    holds=lambda self: len(self.metadata.name) <= 63,
    message="must have at most 63 characters: generated objects carry the name as a label",
    field_path=".metadata.name",
)
#: For objects whose name becomes a Service's, which is a DNS-1035 label.
SERVICE_NAME = CelRule(
    cel="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    holds=lambda self: bool(
        re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", self.metadata.name) and len(self.metadata.name) <= 63
    ),
    message="must have at most 63 lower-case letters, digits and '-' and begin with a letter:"
    " the stack's Service has the same name",
    field_path=".metadata.name",
)


class LocalReference(ApiModel):
    """The name of an object in the same namespace."""

    name: DnsSubdomain
    """Name of the object."""


class Condition(ApiModel):
    """One aspect of an object's state (`metav1.Condition`)."""

    type: Annotated[str, Field(max_length=316)]
    """What the condition is about, such as `Ready`."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    observed_generation: Generation = 0
    """The `metadata.generation` that the condition was computed from."""
    last_transition_time: Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
    """When `status` last changed."""
    reason: Annotated[
        str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """A stable word for machines."""
    message: Annotated[str, Field(max_length=2048)] = ""
    """A sentence for people: what is the case, and what to do next."""

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(by_alias=True, exclude_none=True)


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
"""The conditions of a status, one of each type."""
