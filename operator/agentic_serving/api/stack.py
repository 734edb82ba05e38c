"""AgenticServingStack: one served model with its engine pools, KV tiers and router."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from agentic_serving.api.base import (
    SERVICE_NAME,
    ApiModel,
    ApiObject,
    CelRule,
    Condition,
    Count,
    DnsLabel,
    DnsSubdomain,
    DurationString,
    Generation,
    LocalReference,
    QuantityString,
)
from agentic_serving.api.capability import Capability

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
    "ProgramsStatus",
    "Resolved",
    "RoleStatus",
    "Router",
    "Toleration",
    "Topology",
]

# A path inside a volume: relative, without `..`, so that it cannot leave it.
RelativePath = Annotated[str, Field(max_length=512, pattern=r"^([A-Za-z0-9_\-][A-Za-z0-9._\-]*/?)*$")]
ImageReference = Annotated[
    str, Field(min_length=1, max_length=512, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._\-/:@]*$")
]
LabelMap = Annotated[
    dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]], Field(max_length=32)
]


class KeySelector(ApiModel):
    """A key of a Secret in the same namespace."""

    name: DnsSubdomain
    """Name of the Secret."""
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    """Key in the Secret."""


class HuggingFaceSource(ApiModel):
    """Weights downloaded from the Hugging Face hub when the pod starts."""

    repository: Annotated[
        str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9._\-]+(/[A-Za-z0-9._\-]+)?$")
    ]
    """Repository, such as `Qwen/Qwen3-32B`."""
    revision: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9._\-/]+$")] | None = None
    """Branch, tag or commit. Name a commit to make a restart load the same weights."""
    token_secret_ref: KeySelector | None = None
    """Access token for gated repositories."""


class PersistentVolumeClaimSource(ApiModel):
    """Weights on a volume that is already filled."""

    claim_name: DnsSubdomain
    """A PersistentVolumeClaim in the same namespace; it is mounted read-only."""
    path: RelativePath = ""
    """Folder on the volume that holds the model; the volume's root by default."""


class OciSource(ApiModel):
    """Weights in an OCI image that is mounted as a volume (Kubernetes image volumes)."""

    image: ImageReference
    """Reference of the image or artifact."""
    path: RelativePath = ""
    """Folder in the image that holds the model; its root by default."""


class ModelSource(ApiModel):
    """Where the weights come from: exactly one."""

    hugging_face: HuggingFaceSource | None = None
    """The Hugging Face hub."""
    persistent_volume_claim: PersistentVolumeClaimSource | None = None
    """A volume."""
    oci: OciSource | None = None
    """An OCI image."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="[has(self.huggingFace), has(self.persistentVolumeClaim), has(self.oci)].filter(x, x).size() == 1",
            holds=lambda self: [self.hugging_face, self.persistent_volume_claim, self.oci].count(None) == 2,
            message="name exactly one source: huggingFace, persistentVolumeClaim or oci",
        ),
    )


class Profile(ApiModel):
    """Facts about a model that is not in the built-in table. `agentic-serving model inspect` prints them."""

    kv_bytes_per_token: Annotated[int, Field(ge=1, le=100_000_000)]
    """Bytes of KV cache that one token adds, over all layers, before any tensor-parallel split."""
    kv_heads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Number of KV heads; with more tensor-parallel ranks than this, ranks hold copies. 1 for latent attention."""
    weight_bytes: QuantityString | None = None
    """Size of the weights, such as `64Gi`. Without it, whether the model fits is not checked."""


class Model(ApiModel):
    """The model that the stack serves."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/\-]*$")]
    """Name by which clients ask for it."""
    source: ModelSource
    """Where the weights come from."""
    context_length: Annotated[int, Field(ge=256, le=16_777_216)] | None = None
    """Longest prompt plus answer in tokens; the model's own maximum by default."""
    profile: Profile | None = None
    """Facts for sizing; needed only for models that are not built in."""


class EnvVar(ApiModel):
    """An environment variable: a value, or a key of a Secret."""

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value."""
    secret_key_ref: KeySelector | None = None
    """The Secret's key that holds its value."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="has(self.value) != has(self.secretKeyRef)",
            holds=lambda self: (self.value is None) != (self.secret_key_ref is None),
            message="set exactly one of value and secretKeyRef",
        ),
    )


class Engine(ApiModel):
    """The inference engine."""

    type: Literal["vLLM"] = "vLLM"
    """Which engine."""
    version: (
        Annotated[str, Field(max_length=32, pattern=r"^[0-9]+\.[0-9]+\.[0-9]+([a-z.+\-][a-z0-9.+\-]*)?$")]
        | None
    ) = None
    """Version of the engine; the operator's default for the engine without it. Options are chosen by it."""
    image: ImageReference | None = None
    """Image to run instead of the default; say its `version` too, since it cannot be read from the image."""
    args: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...], Field(max_length=64)
    ] = ()
    """Further command-line arguments, as `--name=value` or `--name`. Those that the operator generates are refused."""
    env: Annotated[
        tuple[EnvVar, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """Further environment variables. Those that the operator generates are refused."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="!has(self.image) || has(self.version)",
            holds=lambda self: self.image is None or self.version is not None,
            message="an image needs its engine version beside it: set engine.version to the version that the image contains",
            field_path=".image",
        ),
    )


class Toleration(ApiModel):
    """A taint that engine pods tolerate, as in a pod's spec."""

    key: Annotated[str, Field(max_length=317)] | None = None
    """Key of the taint; all taints if it is left out with operator `Exists`."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """How the value is compared."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; all effects if it is left out."""


class AcceleratorOverrides(ApiModel):
    """What differs here from the preset."""

    resource_name: (
        Annotated[str, Field(max_length=317, pattern=r"^[A-Za-z0-9.\-]+/[A-Za-z0-9._\-]+$")] | None
    ) = None
    """Extended resource of a device, such as `nvidia.com/mig-3g.71gb`."""
    memory: QuantityString | None = None
    """Memory of one device; capacity and fit are computed from it."""
    node_selector: LabelMap | None = None
    """Node labels, instead of the preset's."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] | None = None
    """Tolerations, instead of the preset's."""
    cpu: Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]{0,5}m?$")] | None = None
    """CPU that each engine pod requests."""
    host_memory: QuantityString | None = None
    """Memory that each engine pod requests and is limited to, before KV tiers are added."""


class Accelerator(ApiModel):
    """What the engine runs on."""

    preset: DnsLabel
    """Name of a preset, such as `nvidia-h200`; `agentic-serving explain presets` lists them."""
    overrides: AcceleratorOverrides = AcceleratorOverrides()
    """What differs here from the preset."""


class Parallelism(ApiModel):
    """How one replica is spread over devices of one node: tensor x pipeline x data of them."""

    tensor: Annotated[int, Field(ge=1, le=64)] = 1
    """Tensor-parallel ranks."""
    pipeline: Annotated[int, Field(ge=1, le=64)] = 1
    """Pipeline stages."""
    data: Annotated[int, Field(ge=1, le=64)] = 1
    """Data-parallel ranks inside the replica."""
    expert: Literal["Enabled", "Disabled"] = "Disabled"
    """Whether the experts of a mixture-of-experts model are spread over the ranks instead of each being split."""


class Pool(ApiModel):
    """A pool of equal replicas."""

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Number of replicas, each one pod."""
    parallelism: Parallelism = Parallelism()
    """How one replica is spread over devices."""


class Aggregated(Pool):
    """One pool whose replicas both prefill and decode."""


class Disaggregated(ApiModel):
    """A pool that prefills and a pool that decodes; KV cache moves between them."""

    transfer: Literal["NIXL"] = "NIXL"
    """What moves the KV cache."""
    prefill: Pool = Pool()
    """Replicas that prefill."""
    decode: Pool = Pool()
    """Replicas that decode, and prefill what is short."""
    uncached_token_threshold: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Prompts with fewer uncached tokens than this are prefilled where they decode."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="self.decode.parallelism.tensor >= self.prefill.parallelism.tensor",
            holds=lambda self: self.decode.parallelism.tensor >= self.prefill.parallelism.tensor,
            message="decode.parallelism.tensor must not be below prefill.parallelism.tensor: the decode engine"
            " crashes when it receives KV cache of a wider split",
            field_path=".decode",
        ),
        CelRule(
            cel="self.decode.parallelism.data == 1 && self.prefill.parallelism.data == 1",
            holds=lambda self: self.decode.parallelism.data == 1 and self.prefill.parallelism.data == 1,
            message="data parallelism is not supported in a disaggregated topology: set parallelism.data to 1"
            " and raise replicas",
        ),
    )


class Topology(ApiModel):
    """How the engine is laid out: exactly one."""

    aggregated: Aggregated | None = None
    """One pool."""
    disaggregated: Disaggregated | None = None
    """Prefill and decode apart."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="has(self.aggregated) != has(self.disaggregated)",
            holds=lambda self: (self.aggregated is None) != (self.disaggregated is None),
            message="name exactly one topology: aggregated or disaggregated",
        ),
    )


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
    """Number of router pods. More than one needs `prefixRouting: Precise`: otherwise each would know only its own part."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="(self.mode == 'Gateway') == has(self.gateway)",
            holds=lambda self: (self.mode == "Gateway") == (self.gateway is not None),
            message="mode Gateway needs gateway.parentRefs, and gateway is for mode Gateway only",
            field_path=".gateway",
        ),
    )


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
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    """Ready, Accepted, Applied, Available, RouterReady, Reconciling, Stalled."""
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
    capabilities: Annotated[
        tuple[Capability, ...],
        Field(
            max_length=32,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["intent", "role"],
            },
        ),
    ] = ()
    """Everything that was asked for beyond plain serving, with what carries it out or why nothing does."""
    programs: ProgramsStatus = ProgramsStatus()
    """The programs that this stack serves."""


class AgenticServingStack(ApiObject):
    """One served model: engine pools, KV tiers and router."""

    spec: AgenticServingStackSpec
    status: AgenticServingStackStatus = AgenticServingStackStatus()

    cel_rules: ClassVar[tuple[CelRule, ...]] = (SERVICE_NAME,)
