"""The program scheduler of a stack: its configuration, its container's values, what others need to reach it, its truth.

The configuration is data that the scheduler's own room reads (`router/config.py`): rooms do not import each other, and a
test holds the two together. It reaches running pods by the mounted file, so a program or a target changes without a restart.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from agentic_serving.api.capability import Capability
from agentic_serving.api.matching import Ordering, ProgramRoute
from agentic_serving.api.program import AgentProgram
from agentic_serving.api.quantities import parse_duration
from agentic_serving.api.rules import Rule
from agentic_serving.capacity.sizing import Unknown, kv_capacity_tokens
from agentic_serving.engines.images import image
from agentic_serving.render.basis import Basis
from agentic_serving.render.engine import ENGINE_PORT, KV_EVENTS_PORT, PlannedPool, pool_selector
from agentic_serving.render.manifest import Manifest
from agentic_serving.render.ports import SCHEDULER_HTTP_PORT, SCHEDULER_PORT
from agentic_serving.render.templates import fill

__all__ = [
    "CONFIG_FILE",
    "LEASES",
    "MECHANISM",
    "SCHEDULER_RULE",
    "lease_rules",
    "longest_hold_s",
    "scheduler_address",
    "scheduler_capabilities",
    "scheduler_config",
    "scheduler_container",
    "scheduler_service",
    "scheduler_volumes",
]

CONFIG_FILE = PurePosixPath("/etc/agentic-serving/scheduler.json")
#: Where the scheduler finds the password of its Valkey.
PASSWORD_VARIABLE = "AGENTIC_SERVING_VALKEY_PASSWORD"  # noqa: S105 - a variable's name
#: Of program `default`, which no AgentProgram describes: as `objective.maxHold`.
DEFAULT_HOLD_S = 300.0
#: The engine's step that the core's parameters are for (`program/policy.py`).
_STEP_TOKENS = 8192
#: What every topic begins with (`engines/commandline.py`); llm-d's own convention, `kv@<pod>@<model>`.
_EVENTS_TOPIC = "kv@"
#: What carries a capability out.
MECHANISM = "program scheduler"
LEASES = "coordination.k8s.io"

SCHEDULER_RULE = Rule(
    id="router/scheduler",
    reason="the program scheduler shares the pod with Envoy, which asks it about every request. No probe of the kubelet looks at it: "
    "a container that is not ready takes the pod out of the Service, and requests must go on without a scheduler. A keeper, which is "
    "the container's first process, starts it again instead",
    source="spec.programScheduling; kubelet, pkg/kubelet/status/generate.go (ContainersReady)",
)
_ACTIVE = Rule(
    id="router/active-scheduler",
    reason="of several router pods one scheduler is active, and every Envoy dials it: the name stands for all of them, ready or not, "
    "and Envoy asks each whether it is the one",
    source="spec.router.replicas; docs/router.md",
)


def scheduler_config(basis: Basis, pools: tuple[PlannedPool, ...], ordering: Ordering) -> str:
    """`scheduler.json`: equal plans give equal text."""
    decoding = pools[-1]
    data: dict[str, Any] = {
        "namespace": basis.owner.namespace,
        "stack": basis.owner.name,
        "mode": basis.scheduling,
        "programs": _programs(basis, ordering.programs),
        "picker_headers": {
            role: header for role, header in asdict(basis.release.headers).items() if header is not None
        },
        "pod_labels": pool_selector(basis),
        "engine_port": ENGINE_PORT,
        "engine": basis.spec.engine.type,
        "engine_version": basis.version,
        "capacity_tokens": _capacity_tokens(basis, decoding),
        "max_seqs": decoding.engine.max_num_seqs,
        "disaggregated": basis.disaggregated,
        "precise": basis.precise,
        "cache_events": _cache_events(basis, decoding),
        "request_timeout_s": float(basis.request_timeout_s),
        "router_replicas": basis.spec.router.replicas,
        "valkey": _valkey(basis),
        "policy": _policy(basis),
    }
    return json.dumps(data, sort_keys=True, indent=1) + "\n"


def _programs(basis: Basis, routes: Sequence[ProgramRoute]) -> list[dict[str, Any]]:
    """Those that Envoy recognises, in the order in which it tries them."""
    by_key = {f"{p.metadata.namespace}/{p.metadata.name}": p for p in basis.inputs.programs}
    return [_program(route, by_key[route.key]) for route in routes]


def _program(route: ProgramRoute, program: AgentProgram) -> dict[str, Any]:
    given, identity = program.spec.objective, program.spec.identity
    headers = [header.model_dump(by_alias=True) for header in route.headers]
    data: dict[str, Any] = {
        # Their order is settled here and Envoy names the program, so their age is of no use.
        "route": {**asdict(route), "headers": headers, "created": ""},
        "priority": given.priority,
        "max_hold_s": parse_duration(given.max_hold),
    }
    if identity is not None:
        data["idle_s"] = parse_duration(identity.idle_timeout)
    if given.completion is not None:
        data["completion_s"] = parse_duration(given.completion.target)
        data["completion_percent"] = _percent(given.completion.percentile)
        data["unit"] = given.completion.unit
    if given.first_token_after_tool is not None:
        data["first_token_s"] = parse_duration(given.first_token_after_tool.target)
        data["first_token_percent"] = _percent(given.first_token_after_tool.percentile)
    return data


def _percent(percentile: str) -> float:
    return float(percentile.removeprefix("P"))


def _capacity_tokens(basis: Basis, planned: PlannedPool) -> int | None:
    tokens = kv_capacity_tokens(basis.profile, basis.accelerator, planned.pool.split, basis.memory)
    return None if isinstance(tokens, Unknown) else tokens or None


def _cache_events(basis: Basis, planned: PlannedPool) -> dict[str, Any] | None:
    """Where the engines that answer clients tell of their caches; only precise routing makes them."""
    if not basis.precise:
        return None
    return {
        "port": KV_EVENTS_PORT,
        "ranks": planned.pool.split.data,
        "topic": _EVENTS_TOPIC,
        "loads": basis.disaggregated or planned.tier.connector is not None,
    }


def _valkey(basis: Basis) -> dict[str, Any] | None:
    valkey = basis.spec.program_scheduling.state.valkey
    return {"address": valkey.address, "tls": valkey.tls == "Enabled"} if valkey else None


def _policy(basis: Basis) -> dict[str, int]:
    """The parameters that are counted in steps of the engine, where its step is another than they are for."""
    step = basis.step_tokens
    if step is None or step == _STEP_TOKENS:
        return {}
    return {"small_tokens": step, "prefill_tokens": 2 * step, "shared_tokens": max(1, step // 4)}


def longest_hold_s(basis: Basis) -> int:
    """Of all programs of the stack, `default` included; whole seconds, for Envoy's timeouts."""
    given = [parse_duration(program.spec.objective.max_hold) for program in basis.inputs.programs]
    return math.ceil(max([DEFAULT_HOLD_S, *given]))


def scheduler_name(basis: Basis) -> str:
    """Of the Service behind which the active scheduler is found, and of the Lease that makes it the active one."""
    return basis.owner.child("scheduler")


def scheduler_address(basis: Basis) -> str:
    """Where Envoy finds it; empty: in its own pod."""
    return f"{scheduler_name(basis)}.{basis.owner.namespace}.svc" if basis.shares_scheduler else ""


def scheduler_service(basis: Basis) -> Iterator[Manifest]:
    if not basis.shares_scheduler:
        return
    body = fill(
        "headless_service",
        metadata=basis.owner.metadata(scheduler_name(basis), "router"),
        selector=basis.owner.selector("router"),
        ports=[
            _port("scheduler-grpc", SCHEDULER_PORT, "kubernetes.io/h2c"),
            _port("scheduler-http", SCHEDULER_HTTP_PORT, "http"),
        ],
    )
    yield Manifest(body=body, rules=(_ACTIVE,))


def _port(name: str, number: int, protocol: str) -> dict[str, Any]:
    return {"name": name, "port": number, "targetPort": number, "protocol": "TCP", "appProtocol": protocol}


def lease_rules(basis: Basis) -> list[dict[str, Any]]:
    """Rules of the router's Role for the Lease of the active scheduler. Creating cannot be limited to a name."""
    if not basis.shares_scheduler:
        return []
    lease = {"apiGroups": [LEASES], "resources": ["leases"]}
    return [
        {**lease, "verbs": ["create"]},
        {**lease, "verbs": ["get", "patch", "update"], "resourceNames": [scheduler_name(basis)]},
    ]


def scheduler_container(basis: Basis, *, pre_stop_s: int) -> list[dict[str, Any]]:
    """The container, if there is one."""
    if basis.scheduling == "Off":
        return []
    container = fill(
        "scheduler_container",
        image=basis.inputs.scheduler_image or image("scheduler"),
        config_file=str(CONFIG_FILE),
        config_folder=str(CONFIG_FILE.parent),
        grpc_port=SCHEDULER_PORT,
        http_port=SCHEDULER_HTTP_PORT,
        env=[
            _field("NAMESPACE", "metadata.namespace"),
            _field("POD_NAME", "metadata.name"),
            _field("POD_IP", "status.podIP"),
            *_password(basis),
        ],
        pre_stop_s=pre_stop_s,
    )
    return [container]


def scheduler_volumes(basis: Basis) -> list[dict[str, Any]]:
    if basis.scheduling == "Off":
        return []
    items = [{"key": CONFIG_FILE.name, "path": CONFIG_FILE.name}]
    return [{"name": "scheduler-config", "configMap": {"name": basis.owner.child("router"), "items": items}}]


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _password(basis: Basis) -> Iterator[dict[str, Any]]:
    valkey = basis.spec.program_scheduling.state.valkey
    if valkey is not None and valkey.password_secret_ref is not None:
        key = valkey.password_secret_ref.model_dump(by_alias=True)
        yield {"name": PASSWORD_VARIABLE, "valueFrom": {"secretKeyRef": key}}


def scheduler_capabilities(basis: Basis) -> Iterator[Capability]:
    """What Enforce asks for. Observe and Off ask for nothing: their queue is the picker's, which tells of it."""
    if basis.scheduling != "Enforce":
        return
    for intent in ("FairQueueing", "TurnHolding", "TurnOrdering", "SessionPlacement", "FanOutStaggering"):
        yield _carried(basis, intent)


def _carried(basis: Basis, intent: str) -> Capability:
    reason = (
        "its parameters are for replicas that prefill and decode; with prefill apart it sees decode pods only"
        if basis.disaggregated and intent in ("TurnHolding", "SessionPlacement")
        else ""
    )
    return Capability(
        intent=intent,
        role="Router",
        state="Approximated" if reason else "Supported",
        mechanism=MECHANISM,
        reason=reason,
    )
