"""The scheduler's configuration: what the operator renders into `scheduler.json`, read again whenever the file changes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.api.program import HeaderMatch
from agentic_serving.errors import InvalidInput
from agentic_serving.program.policy import Policy

__all__ = ["CacheEvents", "Config", "Program", "Valkey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What the scheduler must know of an AgentProgram of its stack.

    Attributes:
        completion_s, completion_percent: the objective; None: there is none.
        unit: what completes.
        first_token_s: after a tool; None: no objective.
    """

    route: ProgramRoute
    priority: int = 0
    max_hold_s: float = 300.0
    idle_s: float = 1800.0
    completion_s: float | None = None
    completion_percent: float = 95.0
    unit: Literal["Task", "Run"] = "Task"
    first_token_s: float | None = None
    first_token_percent: float = 95.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Valkey:
    """Where state is kept that outlives the process. The password comes from the environment, never from here."""

    address: str  # host:port
    tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEvents:
    """How engines publish what their caches store and remove.

    Attributes:
        port: of data-parallel rank 0; rank r publishes on the port plus r.
        topic: what every topic begins with.
        loads: engines also load what they find cached elsewhere (a host tier, a prefill pod), and store it again.
    """

    port: int = 5557
    ranks: int = 1
    topic: str = "kv@"
    loads: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One stack's scheduler.

    Attributes:
        picker_headers: of the release's dialect: role of a header → its name (`templates/pickers/*.yaml`, `headers`).
        pod_labels: of engine pods; the role is in `names.ROLE_LABEL`.
        capacity_tokens: estimate for replicas whose metrics do not say.
        router_replicas: more than one need the Lease of the active scheduler.
        cache_events: None: engines publish none.
        policy: the core's parameters. Its defaults are for steps of 8,192 tokens; what depends on the engine's step
            (`small_tokens`, `prefill_tokens`, `shared_tokens`) follows `--max-num-batched-tokens` where that is another.
    """

    namespace: str
    stack: str
    mode: Literal["Enforce", "Observe"]
    programs: tuple[Program, ...] = ()
    picker_headers: Mapping[str, str] = field(default_factory=dict)
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    engine_port: int = 8000
    engine: Literal["vLLM", "SGLang"] = "vLLM"
    engine_version: str = ""
    capacity_tokens: int | None = None
    max_seqs: int = 256
    disaggregated: bool = False
    precise: bool = False
    cache_events: CacheEvents | None = None
    request_timeout_s: float = 1800.0
    router_replicas: int = 1
    valkey: Valkey | None = None
    policy: Policy = field(default_factory=Policy)

    def to_json(self) -> str:
        """Equal configurations give equal text."""
        return json.dumps(asdict(self), sort_keys=True, indent=1, default=_plain)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Config":
        """
        Raises:
            InvalidInput: the text is not what `to_json` writes; unknown fields are ignored, as newer operators write more.
        """
        try:
            return _config(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInput("scheduler.json", f"cannot be read: {error}") from error


def _config(data: Mapping[str, Any]) -> Config:
    given = _known(Config, data)
    given["programs"] = tuple(_program(one) for one in data.get("programs", ()))
    given["valkey"] = Valkey(**_known(Valkey, data["valkey"])) if data.get("valkey") else None
    events = data.get("cache_events")
    given["cache_events"] = CacheEvents(**_known(CacheEvents, events)) if events else None
    given["policy"] = Policy(**_known(Policy, data.get("policy") or {}))
    return Config(**given)


def _program(data: Mapping[str, Any]) -> Program:
    route = _known(ProgramRoute, data["route"])
    route["clients"] = tuple(route.get("clients", ()))
    route["headers"] = tuple(HeaderMatch.model_validate(one) for one in route.get("headers", ()))
    return Program(**{**_known(Program, data), "route": ProgramRoute(**route)})


def _known(kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in data.items() if name in names}


def _plain(value: object) -> object:
    if isinstance(value, HeaderMatch):
        return value.model_dump(by_alias=True)
    raise TypeError(f"{type(value).__name__} has no JSON form")
