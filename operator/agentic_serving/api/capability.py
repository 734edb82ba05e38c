"""Capability truth: what was asked for, and what carries it out on this engine and version, or why nothing does."""

from typing import Annotated, Literal

from pydantic import Field

from agentic_serving.api.base import ApiModel

__all__ = ["Capabilities", "Capability", "CapabilityState", "Role"]

CapabilityState = Literal["Supported", "Approximated", "Unsupported"]
#: Which part of the stack a capability or an escape hatch is about.
Role = Literal["Aggregated", "Prefill", "Decode", "Router"]


class Capability(ApiModel):
    """One intent and what becomes of it."""

    intent: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    """What was asked for, such as `HostMemoryTier` or `PrecisePrefixRouting`."""
    role: Role
    """The part of the stack it is about."""
    state: CapabilityState
    """`Supported`: carried out as asked. `Approximated`: something near it is. `Unsupported`: nothing is."""
    mechanism: Annotated[str, Field(max_length=128)] = ""
    """What carries it out, such as `vLLM OffloadingConnector`; empty if nothing does."""
    reason: Annotated[str, Field(max_length=512)] = ""
    """Why it is not fully supported, and what would change that; empty if it is supported."""


Capabilities = Annotated[
    tuple[Capability, ...],
    Field(
        max_length=32,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["intent", "role"],
        },
    ),
]
"""One entry for each intent and role."""
