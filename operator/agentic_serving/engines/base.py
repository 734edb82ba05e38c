"""What a plan for an engine container consists of: plain values, each with the rule that made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentic_serving.api.capability import Capability
from agentic_serving.api.findings import Finding
from agentic_serving.api.rules import Rule
from agentic_serving.capacity.accelerator import Accelerator, Setting
from agentic_serving.capacity.sizing import Parallelism
from agentic_serving.errors import Bug

__all__ = [
    "EngineInputs",
    "EnginePlan",
    "EnvVar",
    "KVEvents",
    "Option",
    "Probe",
    "Probes",
    "Role",
    "SecretKey",
    "Tuning",
    "UserEnv",
    "literal",
]

#: The role of an engine pool; the API's word for it.
Role = Literal["Aggregated", "Prefill", "Decode"]


def literal(text: str) -> str:
    """`text` such that Kubernetes does not expand a `$(NAME)` in it (Container.args: `$$` stands for `$`)."""
    return text.replace("$(", "$$(")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKey:
    """A key of a Secret in the stack's namespace."""

    name: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One generated command-line option."""

    name: str  # with dashes: --block-size
    value: str | None = None  # None: a switch
    rule: Rule

    @property
    def text(self) -> str:
        """The option as one element of the argument list, whatever its value holds."""
        return self.name if self.value is None else f"{self.name}={self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvVar:
    """One environment variable: a value, a field of the pod, or a key of a Secret.

    Raises:
        Bug: not exactly one of the three is set.
    """

    name: str
    value: str | None = None
    field_path: str | None = None  # status.podIP
    secret: SecretKey | None = None
    rule: Rule

    def __post_init__(self) -> None:
        if (self.value, self.field_path, self.secret).count(None) != 2:
            raise Bug(f"environment variable {self.name} needs exactly one of value, field and secret")

    def to_dict(self) -> dict[str, Any]:
        """An entry of a container's `env`."""
        if self.secret is not None:
            source = {"secretKeyRef": {"name": self.secret.name, "key": self.secret.key}}
            return {"name": self.name, "valueFrom": source}
        if self.field_path is not None:
            return {"name": self.name, "valueFrom": {"fieldRef": {"fieldPath": self.field_path}}}
        return {"name": self.name, "value": self.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEnv:
    """An entry of `spec.engine.env`."""

    name: str
    value: str | None = None
    secret: SecretKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KVEvents:
    """Where a replica publishes what it caches, for precise prefix routing."""

    port: int = 5557  # ZMQ publisher; data-parallel rank r uses port + r
    endpoint_port: int = 8000  # the pod's port as the picker knows it: the sidecar's where there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """An HTTP probe of the engine container."""

    path: str
    port: int
    period_s: int
    timeout_s: int
    failure_threshold: int

    def to_dict(self) -> dict[str, Any]:
        """A container's `startupProbe`, `readinessProbe` or `livenessProbe`."""
        return {
            "httpGet": {"path": self.path, "port": self.port},
            "periodSeconds": self.period_s,
            "timeoutSeconds": self.timeout_s,
            "failureThreshold": self.failure_threshold,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """The three probes of the engine container."""

    startup: Probe
    readiness: Probe
    liveness: Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a user's arguments and environment change for the whole stack, not for the engine alone."""

    block_tokens: int  # tokens per KV block: the router counts in the same
    max_num_seqs: int  # requests that one data-parallel rank runs at once: the router admits accordingly
    tool_parser: str | None = None  # the user's own
    reasoning_parser: str | None = None
    auto_tool_choice: bool | None = None  # None: not said
    kv_cache_bytes: int | None = None  # CPU only: the pool, where the user sets its size


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInputs:
    """Everything that decides how one role's engine container is run."""

    role: Role
    served_name: str
    model_ref: str  # Hugging Face repository, or absolute path in the container
    accelerator: Accelerator
    version: str
    revision: str | None = None
    context_length: int | None = None  # tokens; None: the model's own
    parallelism: Parallelism = field(default_factory=Parallelism)
    custom_image: bool = False  # the user names an image: it may hold packages that the default one lacks
    port: int = 8000  # 8200 behind the P/D sidecar
    behind_sidecar: bool = False
    connector: Mapping[str, Any] | None = None  # the whole kv-transfer-config
    kv_events: KVEvents | None = None  # precise prefix routing
    shutdown_timeout_s: int = 300  # spec.disruption.drainTimeout
    peer_tensor: int | None = None  # tensor-parallel ranks of the other role, prefill and decode only
    hf_token: SecretKey | None = None
    home_dir: str = "/cache"  # where a writable volume is mounted
    extra_env: tuple[Setting, ...] = ()  # of a KV tier
    tier_shm_bytes: int = 0  # of a KV tier, in /dev/shm
    tier_memory_bytes: int = 0  # of a KV tier, in the engine container
    host_memory_bytes: int | None = None  # spec.accelerator.overrides.hostMemory
    user_args: tuple[str, ...] = ()  # spec.engine.args
    user_env: tuple[UserEnv, ...] = ()  # spec.engine.env


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlan:
    """How one role's engine container is run, and what it can do."""

    command: tuple[str, ...]
    args: tuple[str, ...]  # the model, the generated options, then the user's
    options: tuple[Option, ...]
    env: tuple[EnvVar, ...]  # in order: a variable is defined before what refers to it
    port: int
    metrics_port: int
    kv_events_port: int | None
    nixl_port: int | None
    ports: tuple[tuple[str, int], ...]  # (name, number), all TCP
    shm_bytes: int  # limit of the memory volume at /dev/shm
    memory_request_bytes: int | None  # None: nothing is known, and nothing is asked for
    memory_limit_bytes: int | None  # None: no limit is known
    run_as_user: int
    block_tokens: int
    max_num_seqs: int  # requests that a replica runs at once, over its data-parallel ranks
    probes: Probes
    pre_stop_s: int  # sleep between the pod's leaving the endpoints and SIGTERM
    termination_grace_s: int
    rules: tuple[Rule, ...]  # of what is neither option nor variable
    capabilities: tuple[Capability, ...]
    findings: tuple[Finding, ...]
