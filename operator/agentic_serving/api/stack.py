"""AgenticServingStack: one served model with its engine pools, KV tiers, router and program scheduler."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from agentic_serving.api.base import (
    SERVICE_NAME,
    ApiModel,
    ApiObject,
    CelRule,
    Conditions,
    Count,
    DurationString,
    Generation,
    LocalReference,
)
from agentic_serving.api.capability import Capabilities
from agentic_serving.api.engine import Accelerator, AcceleratorOverrides, Engine, EnvVar, Toleration
from agentic_serving.api.model import (
    HuggingFaceSource,
    KeySelector,
    Model,
    ModelSource,
    OciSource,
    PersistentVolumeClaimSource,
    Profile,
)
from agentic_serving.api.router import EndpointPicker, Gateway, ParentReference, Router
from agentic_serving.api.scheduling import ProgramScheduling, SchedulingState, Valkey
from agentic_serving.api.topology import Aggregated, Disaggregated, Parallelism, Pool, Topology

__all__ = [
    "Accelerator",
    "AcceleratorOverrides",
    "AgenticServingStack",
    "AgenticServingStackSpec",
    "AgenticServingStackStatus",
    "Aggregated",
    "Disaggregated",
    "Disruption",
    "EndpointPicker",
    "Engine",
    "EnvVar",
    "Gateway",
    "HuggingFaceSource",
    "KeySelector",
    "Model",
    "ModelSource",
    "OciSource",
    "Parallelism",
    "ParentReference",
    "PersistentVolumeClaimSource",
    "PodTemplates",
    "Pool",
    "Profile",
    "ProgramScheduling",
    "ProgramsStatus",
    "Resolved",
    "RoleStatus",
    "Router",
    "SchedulingState",
    "Toleration",
    "Topology",
    "Valkey",
]


class Disruption(ApiModel):
    """What happens when pods have to go."""

    drain_timeout: DurationString = "5m"
    """How long a pod that is told to stop may finish the requests it has."""


PodTemplate = Annotated[
    dict[str, Any], Field(json_schema_extra={"type": "object", "x-kubernetes-preserve-unknown-fields": True})
]


class PodTemplates(ApiModel):
    """Escape hatch: parts of pod templates, merged last over what the operator generates.

    Lists of named things (containers, volumes, env) are merged by name, others replaced. Arguments,
    labels and ports that the operator owns are refused.
    """

    aggregated: PodTemplate | None = None
    """For pods of the aggregated pool."""
    prefill: PodTemplate | None = None
    """For prefill pods."""
    decode: PodTemplate | None = None
    """For decode pods."""
    router: PodTemplate | None = None
    """For router pods."""


class AgenticServingStackSpec(ApiModel):
    """What the user asks for."""

    model: Model
    """The model that the stack serves."""
    engine: Engine = Engine()
    """The inference engine."""
    accelerator: Accelerator
    """What the engine runs on."""
    topology: Topology
    """How the engine is laid out."""
    kv_tier_policy_ref: LocalReference | None = None
    """The KVTierPolicy, in the same namespace, that says where KV cache goes when it leaves the accelerator."""
    router: Router = Router()
    """The way in."""
    program_scheduling: ProgramScheduling = ProgramScheduling()
    """The program scheduler, which decides when and where the turns of agents' runs go."""
    disruption: Disruption = Disruption()
    """What happens when pods have to go."""
    pod_template: PodTemplates = PodTemplates()
    """Escape hatch: parts of pod templates, merged last."""


class RoleStatus(ApiModel):
    """The pods of one role."""

    name: Literal["Aggregated", "Prefill", "Decode", "Router"]
    """The role."""
    replicas: Count = 0
    """How many replicas are asked for."""
    ready: Count = 0
    """How many of them are ready."""
    updated: Count = 0
    """How many of them run the newest template."""


class Resolved(ApiModel):
    """What defaults, presets and tables came to."""

    engine_version: Annotated[str, Field(max_length=64)] = ""
    """Version of the engine whose options are used."""
    engine_image: Annotated[str, Field(max_length=512)] = ""
    """Image of the engine."""
    endpoint_picker_image: Annotated[str, Field(max_length=512)] = ""
    """Image of the endpoint picker."""
    devices_per_replica: Count = 0
    """Accelerator devices that one replica takes; of the decode pool where pools differ."""
    kv_bytes_per_token: Count | None = None
    """Bytes of KV cache that one token adds."""
    kv_capacity_tokens: Annotated[int, Field(ge=0, le=10**15)] | None = None
    """Tokens of KV cache that fit in one replica's device memory, estimated; of the decode pool where pools differ."""
    sizing: Annotated[str, Field(max_length=512)] = ""
    """What the sizes rest on, or why there are none."""


class ProgramsStatus(ApiModel):
    """The programs that this stack serves."""

    attached: Count = 0
    """How many AgentPrograms the router recognises."""


class AgenticServingStackStatus(ApiModel):
    """What the operator reports."""

    observed_generation: Generation = 0
    """The `metadata.generation` that this status was computed from."""
    conditions: Conditions = ()
    """Ready, Accepted, Applied, Available, RouterReady, SchedulerHealthy, Reconciling, Stalled."""
    endpoint: Annotated[str, Field(max_length=512)] | None = None
    """Base URL for clients inside the cluster."""
    replicas: Annotated[str, Field(max_length=32)] | None = None
    """Ready and wanted engine replicas of all pools, as `2/3`."""
    roles: Annotated[
        tuple[RoleStatus, ...],
        Field(
            max_length=4,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """The pods of each role."""
    resolved: Resolved | None = None
    """What defaults, presets and tables came to."""
    capabilities: Capabilities = ()
    """Everything that was asked for beyond plain serving, with what carries it out or why nothing does."""
    programs: ProgramsStatus = ProgramsStatus()
    """The programs that this stack serves."""


class AgenticServingStack(ApiObject):
    """One served model: engine pools, KV tiers, router and program scheduler."""

    spec: AgenticServingStackSpec
    status: AgenticServingStackStatus = AgenticServingStackStatus()

    cel_rules: ClassVar[tuple[CelRule, ...]] = (SERVICE_NAME,)
