"""The way into a stack: Envoy, the endpoint picker, and Gateway API."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agentic_serving.api.base import ApiModel, CelRule, DnsLabel, DnsSubdomain, DurationString
from agentic_serving.api.model import ImageReference

__all__ = [
    "EndpointPicker",
    "Gateway",
    "ParentReference",
    "Router",
]


class ParentReference(ApiModel):
    """A Gateway that the stack's HTTPRoute attaches to."""

    name: DnsSubdomain
    """Name of the Gateway."""
    namespace: DnsLabel | None = None
    """Its namespace; the stack's by default."""
    section_name: DnsSubdomain | None = None
    """The listener to attach to; all by default."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port of the listener to attach to."""


class Gateway(ApiModel):
    """How the stack is reached through Gateway API."""

    parent_refs: Annotated[tuple[ParentReference, ...], Field(min_length=1, max_length=8)]
    """Gateways to attach to."""
    hostnames: Annotated[
        tuple[
            Annotated[
                str,
                Field(
                    min_length=1,
                    max_length=253,
                    pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
                ),
            ],
            ...,
        ],
        Field(max_length=16),
    ] = ()
    """Host names to answer to; all by default."""


class EndpointPicker(ApiModel):
    """The endpoint picker that chooses a pod for each request."""

    release: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9.\-]*$")] = (
        "llm-d-0.10"
    )
    """Release of the picker; its configuration dialect, options and abilities are chosen by it."""
    image: ImageReference | None = None
    """Image to run instead of the release's."""


class Router(ApiModel):
    """The way in: Envoy and the endpoint picker."""

    mode: Literal["Standalone", "Gateway"] = "Standalone"
    """`Standalone`: clients use the stack's Service. `Gateway`: an HTTPRoute leads there as well."""
    gateway: Gateway | None = None
    """Settings for mode `Gateway`."""
    endpoint_picker: EndpointPicker = EndpointPicker()
    """The endpoint picker."""
    prefix_routing: Literal["Approximate", "Precise"] = "Approximate"
    """`Approximate`: the picker guesses what each replica has cached. `Precise`: replicas tell it by KV events."""
    request_timeout: DurationString = "30m"
    """Longest time that a request may take, queueing included. Agents' turns are long: SDKs wait 10 minutes by default."""
    replicas: Annotated[int, Field(ge=0, le=16)] = 1
    """Number of router pods. More than one needs `programScheduling.mode: Enforce`, whose one active scheduler places requests,
    or `prefixRouting: Precise`: otherwise each picker would know only its own part."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="(self.mode == 'Gateway') == has(self.gateway)",
            holds=lambda self: (self.mode == "Gateway") == (self.gateway is not None),
            message="mode Gateway needs gateway.parentRefs, and gateway is for mode Gateway only",
            field_path=".gateway",
        ),
    )
