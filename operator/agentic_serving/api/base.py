"""What all API types share: frozen models, bounded strings, metadata, conditions, references.

Every list, map and string has a bound: the API server refuses CEL rules over unbounded data, and a status
that can grow without end is an outage in waiting.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasGenerator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

__all__ = [
    "ApiModel",
    "CelRule",
    "Condition",
    "DnsLabel",
    "DnsSubdomain",
    "DurationString",
    "HeaderName",
    "LocalReference",
    "ObjectMeta",
    "QuantityString",
]

#: A name usable as a DNS-1123 label (RFC 1123).
DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
#: A name usable as a DNS-1123 subdomain: what most objects may be called.
DnsSubdomain = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
#: A Gateway API duration (GEP-2257): `30s`, `5m`, `1h30m`.
DurationString = Annotated[str, Field(min_length=2, max_length=24, pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
#: A Kubernetes quantity of bytes, as a string: `100Gi`, `500G`.
QuantityString = Annotated[
    str,
    Field(min_length=1, max_length=24, pattern=r"^[0-9]{1,15}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"),
]
#: An HTTP header's name (RFC 9110 token, in lower case or not).
HeaderName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")]


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
    observed_generation: Annotated[int, Field(ge=0)] = 0
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
