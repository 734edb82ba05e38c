"""One case or more for every field of the three kinds: from what, to what, and what must come of it.

`changes` names every child whose wish differs afterwards, no more and no less: a configuration change rolls exactly
what reads it. The test generates the list of fields from the CRDs, and a field without a case fails.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.apiclient import Manifest
from tests.e2e.stacks import aggregated, disaggregated, policy, program
from tests.e2e.world import UNSET, edited

__all__ = ["BASES", "CASES", "REFUSED_BY_SERVER", "Case"]

ENGINE = "Deployment/chat-engine"
PREFILL = "Deployment/chat-prefill"
DECODE = "Deployment/chat-decode"
TOKENIZER = "Deployment/chat-tokenizer"
ROUTER = "Deployment/chat-router"
CONFIG = "ConfigMap/chat-router"
ROUTE = "HTTPRoute/chat"
#: A change of the router's configuration, and the rollout that makes it read it.
ROUTER_CONFIG = frozenset({CONFIG, ROUTER})
SPLIT = frozenset({PREFILL, DECODE})
#: What precise prefix routing brings: engines that tell what they hold, a tokenizer, and ways to both.
PRECISE = frozenset(
    {ENGINE, TOKENIZER, "Service/chat-tokenizer", "NetworkPolicy/chat-engine", "NetworkPolicy/chat-tokenizer"}
)
#: What several router pods bring: a way to the one active scheduler, and the right to be it.
ACTIVE = frozenset({"Service/chat-scheduler", "Role/chat-router", "NetworkPolicy/chat-router"})
#: What a shared tier brings: engines that know the coordinator, itself, and ways to both.
LMCACHE = frozenset(
    {
        ENGINE,
        "Deployment/chat-lmcache",
        "Service/chat-lmcache",
        "NetworkPolicy/chat-engine",
        "NetworkPolicy/chat-lmcache",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Take `base`, make `edits` to its first object.

    Attributes:
        path: the field, as `leaves` of the test writes it.
        changes: children whose wish differs afterwards; the stack's name in them is `chat`.
        shows, hides: a text that the changed children have only after, or only before.
        status: a text that the status of the edited object has only after.
        resolves: a field of the stack's `status.resolved` whose value differs afterwards.
        refused: reason and a part of the message with which the stack is not accepted afterwards.
        variant: tells cases of one field apart.
    """

    path: str
    edits: Mapping[str, object]
    changes: frozenset[str] = frozenset({ENGINE})
    base: str = "aggregated"
    shows: str = ""
    hides: str = ""
    status: str = ""
    resolves: str = ""
    refused: tuple[str, str] | None = None
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.path}{'-' if self.variant else ''}{self.variant}"


def _with(build: Callable[..., Manifest], **spec: object) -> Callable[[str], list[Manifest]]:
    return lambda name: [build(name, **spec)]


def _source(**source: object) -> Callable[[str], list[Manifest]]:
    return lambda name: [edited(aggregated(name), {"spec.model.source": source})]


def _policy(**spec: Any) -> Callable[[str], list[Manifest]]:
    return lambda name: [policy(f"kv-{name}", **spec), aggregated(name, policy=f"kv-{name}")]


def _program(**spec: object) -> Callable[[str], list[Manifest]]:
    return lambda name: [program(f"p-{name}", name, **spec), aggregated(name)]


_LMCACHE = {"hostMemory": {"backend": "LMCache", "capacityPerReplica": "10Gi"}}
_SHARED = {"shared": {"persistentVolumeClaim": {"claimName": "tier"}}}
_SMALL_MODEL = {"name": "small", "source": {"huggingFace": {"repository": "Qwen/Qwen3-0.6B"}}}
_OWN_MODEL = {"name": "acme/own-7b", "source": {"huggingFace": {"repository": "acme/own-7b"}}}

#: What cases start from: given the stack's name, the objects, the edited one first.
BASES: dict[str, Callable[[str], list[Manifest]]] = {
    "aggregated": lambda name: [aggregated(name)],
    "disaggregated": lambda name: [disaggregated(name)],
    "gateway": _with(aggregated, router={"mode": "Gateway", "gateway": {"parentRefs": [{"name": "edge"}]}}),
    "precise": _with(aggregated, router={"prefixRouting": "Precise"}),
    "valkey": _with(
        aggregated,
        programScheduling={
            "state": {
                "backend": "Valkey",
                "valkey": {"address": "v:6379", "passwordSecretRef": {"name": "s", "key": "k"}},
            }
        },
    ),
    "volume": _source(persistentVolumeClaim={"claimName": "weights"}),
    "oci": _source(oci={"image": "registry.example.com/weights:v1"}),
    "own-model": _with(aggregated, model={**_OWN_MODEL, "profile": {"kvBytesPerToken": 131072}}),
    "own-model-wide": _with(
        aggregated,
        model={**_OWN_MODEL, "profile": {"kvBytesPerToken": 131072, "weightBytes": "10Gi"}},
        topology={"aggregated": {"parallelism": {"tensor": 2}}},
    ),
    "wide-decode": _with(
        aggregated, topology={"disaggregated": {"prefill": {}, "decode": {"parallelism": {"tensor": 4}}}}
    ),
    "policy": _policy(),
    "cpu-policy": lambda name: [
        policy(f"kv-{name}"),
        aggregated(name, policy=f"kv-{name}", accelerator={"preset": "cpu"}, model=_SMALL_MODEL),
    ],
    "shared": _policy(**_LMCACHE, **_SHARED),
    "program": _program(),
    "objective": _program(
        objective={"completion": {"target": "5m"}, "firstTokenAfterTool": {"target": "2s"}, "priority": 3}
    ),
    "identity": _program(identity={"headers": {"session": "x-run"}}),
}

#: Fields whose every other value the API server refuses today, with what it says: enums of one value, keys of lists.
#: An edit of a base's first object for each.
REFUSED_BY_SERVER: Mapping[str, tuple[str, Mapping[str, object], str]] = {
    "AgenticServingStack spec.engine.type": (
        "aggregated",
        {"spec.engine.type": "SGLang"},
        'Unsupported value: "SGLang": supported values: "vLLM"',
    ),
    "AgenticServingStack spec.topology.disaggregated.transfer": (
        "disaggregated",
        {"spec.topology.disaggregated.transfer": "Mooncake"},
        'Unsupported value: "Mooncake": supported values: "NIXL"',
    ),
    "AgenticServingStack spec.topology.disaggregated.prefill.parallelism.data": (
        "disaggregated",
        {"spec.topology.disaggregated.prefill.parallelism.data": 2},
        "set parallelism.data to 1 and raise replicas",
    ),
    "AgenticServingStack spec.topology.disaggregated.decode.parallelism.data": (
        "disaggregated",
        {"spec.topology.disaggregated.decode.parallelism.data": 2},
        "set parallelism.data to 1 and raise replicas",
    ),
    "AgentProgram spec.agents[].name": (
        "program",
        {"spec.agents[1]": {"name": "agent-0", "stackRef": {"name": "chat"}}},
        "agent-0",
    ),
    "KVTierPolicy spec.shared.backend": (
        "shared",
        {"spec.shared.backend": "Mooncake"},
        'Unsupported value: "Mooncake": supported values: "LMCache"',
    ),
}

_TOLERATIONS = "spec.accelerator.overrides.tolerations"
_PARENT = "spec.router.gateway.parentRefs[0]"
_HUB = "spec.model.source.huggingFace"
_CLAIM = "spec.model.source.persistentVolumeClaim"
_SECRET = {"name": "huggingface", "key": "token"}
_OBJECTIVE = "InferenceObjective/chat.p-chat"
_NOTHING: frozenset[str] = frozenset()
#: What running router pods read while they run: nothing is rolled.
_LIVE = frozenset({CONFIG})


def _parallelism(pool: str, base: str, rolls: frozenset[str], own: str) -> list[Case]:
    """Cases of one pool.

    Args:
        rolls: Deployments that a new split rolls.
        own: the pool's own name: what another number of replicas changes.
    """
    path = f"spec.topology.{pool}"
    at = f"{path}.parallelism"
    sized = (
        _NOTHING if pool == "disaggregated.prefill" else _LIVE
    )  # of the pool that decodes, the scheduler knows the size
    scaled = frozenset({f"Deployment/{own}", f"PodDisruptionBudget/{own}"})
    return [
        Case(path=f"{at}.tensor", base=base, edits={f"{at}.tensor": 2}, changes=rolls | sized, shows="--tensor-parallel-size=2"),
        Case(path=f"{at}.pipeline", base=base, edits={f"{at}.pipeline": 2}, changes=rolls | sized, shows="--pipeline-parallel-size=2"),
        Case(path=f"{at}.expert", base=base, edits={f"{at}.expert": "Enabled"}, changes=rolls, shows="--enable-expert-parallel"),
        Case(path=f"{path}.replicas", base=base, edits={f"{path}.replicas": 3}, changes=scaled, shows='"replicas": 3'),
        Case(path=f"{path}.replicas", base=base, edits={f"{path}.replicas": 0}, changes=frozenset({f"Deployment/{own}"}), shows='"replicas": 0', variant="zero"),
    ]  # fmt: skip


_MODEL = [
    Case(path="spec.model.name", edits={"spec.model.name": "other"}, shows="--served-model-name=other"),
    Case(path="spec.model.source.huggingFace.repository", edits={"spec.model.source.huggingFace.repository": "Qwen/Qwen3-8B"}, changes=_LIVE | {ENGINE}, shows="Qwen/Qwen3-8B"),
    Case(path="spec.model.source.huggingFace.revision", edits={"spec.model.source.huggingFace.revision": "abc123"}, shows="--revision=abc123"),
    Case(path="spec.model.source.huggingFace.tokenSecretRef.name", edits={"spec.model.source.huggingFace.tokenSecretRef": _SECRET}, shows='"name": "huggingface"'),
    Case(path="spec.model.source.huggingFace.tokenSecretRef.key", edits={"spec.model.source.huggingFace.tokenSecretRef": _SECRET}, shows='"key": "token"'),
    Case(path="spec.model.source.persistentVolumeClaim.claimName", base="volume", edits={"spec.model.source.persistentVolumeClaim.claimName": "others"}, shows='"claimName": "others"'),
    Case(path="spec.model.source.persistentVolumeClaim.path", base="volume", edits={"spec.model.source.persistentVolumeClaim.path": "qwen/32b"}, shows="/qwen/32b"),
    Case(path="spec.model.source.oci.image", base="oci", edits={"spec.model.source.oci.image": "registry.example.com/weights:v2"}, shows="weights:v2"),
    Case(path="spec.model.source.oci.path", base="oci", edits={"spec.model.source.oci.path": "models/a"}, shows="/models/a"),
    Case(path="spec.model.contextLength", edits={"spec.model.contextLength": 4096}, changes=ROUTER_CONFIG | {ENGINE}, shows="--max-model-len=4096"),
    Case(path="spec.model.contextLength", edits={"spec.model.contextLength": 256}, changes=ROUTER_CONFIG | {ENGINE}, shows="--max-model-len=256", variant="min"),
    Case(path="spec.model.contextLength", edits={"spec.model.contextLength": 16777216}, refused=("ContextTooLong", "spec.model.contextLength: 16777216 tokens are more than the 40960"), variant="max"),
    Case(path="spec.model.profile.kvBytesPerToken", edits={"spec.model.profile.kvBytesPerToken": 1000}, base="own-model", changes=_NOTHING, resolves="kvBytesPerToken"),
    Case(path="spec.model.profile.kvHeads", edits={"spec.model.profile.kvHeads": 1}, base="own-model-wide", changes=_LIVE, resolves="kvCapacityTokens"),
    Case(path="spec.model.profile.weightBytes", edits={"spec.model.profile.weightBytes": "10Gi"}, base="own-model", changes=_LIVE, resolves="kvCapacityTokens"),
    Case(path="spec.model.profile.weightBytes", edits={"spec.model.profile.weightBytes": "999Ti"}, base="own-model", refused=("ModelDoesNotFit", "spec.topology.aggregated"), variant="max"),
]  # fmt: skip

_ENGINE = [
    Case(path="spec.engine.version", edits={"spec.engine.version": "0.33.1"}, changes=_LIVE | {ENGINE}, resolves="engineVersion"),
    Case(path="spec.engine.image", edits={"spec.engine.image": "example.com/vllm:mine", "spec.engine.version": "0.33.0"}, shows="example.com/vllm:mine"),
    Case(path="spec.engine.args[]", edits={"spec.engine.args": ["--max-num-batched-tokens=4096"]}, changes=_LIVE | {ENGINE}, shows="--max-num-batched-tokens=4096"),
    Case(path="spec.engine.args[]", edits={"spec.engine.args": ["--port=1"]}, refused=("ArgumentOwned", "spec.engine.args[0]: --port"), variant="owned"),
    Case(path="spec.engine.env[].name", edits={"spec.engine.env": [{"name": "EXTRA", "value": "1"}]}, shows='"EXTRA"'),
    Case(path="spec.engine.env[].value", edits={"spec.engine.env": [{"name": "EXTRA", "value": "seen"}]}, shows='"seen"'),
    Case(path="spec.engine.env[].value", edits={"spec.engine.env": [{"name": "EXTRA", "value": ""}]}, shows='"EXTRA"', variant="empty"),
    Case(path="spec.engine.env[].secretKeyRef.name", edits={"spec.engine.env": [{"name": "EXTRA", "secretKeyRef": _SECRET}]}, shows='"name": "huggingface"'),
    Case(path="spec.engine.env[].secretKeyRef.key", edits={"spec.engine.env": [{"name": "EXTRA", "secretKeyRef": _SECRET}]}, shows='"key": "token"'),
]  # fmt: skip

_ACCELERATOR = [
    Case(path="spec.accelerator.preset", edits={"spec.accelerator.preset": "nvidia-h100"}, changes=_LIVE | {ENGINE}, shows="NVIDIA-H100-80GB-HBM3"),
    Case(path="spec.accelerator.overrides.resourceName", edits={"spec.accelerator.overrides.resourceName": "example.com/gpu"}, shows='"example.com/gpu"'),
    Case(path="spec.accelerator.overrides.memory", edits={"spec.accelerator.overrides.memory": "96Gi"}, changes=_LIVE, resolves="kvCapacityTokens"),
    Case(path="spec.accelerator.overrides.nodeSelector{}", edits={"spec.accelerator.overrides.nodeSelector": {"pool": "blue"}}, shows='"pool": "blue"'),
    Case(path="spec.accelerator.overrides.nodeSelector{}", edits={"spec.accelerator.overrides.nodeSelector": {}}, hides="NVIDIA-H200", variant="empty"),
    Case(path=f"{_TOLERATIONS}[].key", edits={_TOLERATIONS: [{"key": "dedicated"}]}, shows='"dedicated"'),
    Case(path=f"{_TOLERATIONS}[].key", edits={_TOLERATIONS: []}, hides='"tolerations"', variant="empty"),
    Case(path=f"{_TOLERATIONS}[].operator", edits={_TOLERATIONS: [{"key": "dedicated", "operator": "Equal", "value": "x"}]}, hides='"Exists"'),
    Case(path=f"{_TOLERATIONS}[].value", edits={_TOLERATIONS: [{"key": "dedicated", "value": "agents"}]}, shows='"agents"'),
    Case(path=f"{_TOLERATIONS}[].effect", edits={_TOLERATIONS: [{"key": "dedicated", "effect": "NoExecute"}]}, shows='"NoExecute"'),
    Case(path="spec.accelerator.overrides.cpu", edits={"spec.accelerator.overrides.cpu": "7"}, shows='"cpu": "7"'),
    Case(path="spec.accelerator.overrides.hostMemory", edits={"spec.accelerator.overrides.hostMemory": "77Gi"}, shows='"memory": "77Gi"'),
]  # fmt: skip

_AGGREGATED = "spec.topology.aggregated"
_SPLIT = "spec.topology.disaggregated"
_TOPOLOGY = [
    *_parallelism("aggregated", "aggregated", frozenset({ENGINE}), "chat-engine"),
    Case(path=f"{_AGGREGATED}.parallelism.data", edits={f"{_AGGREGATED}.parallelism.data": 2}, changes=ROUTER_CONFIG | {ENGINE}, shows="--data-parallel-size=2"),
    Case(path=f"{_AGGREGATED}.parallelism.tensor", edits={f"{_AGGREGATED}.parallelism.tensor": 64}, refused=("TooManyDevices", f"{_AGGREGATED}.parallelism: one replica needs 64 devices"), variant="max"),
    *_parallelism("disaggregated.decode", "disaggregated", SPLIT, "chat-decode"),
    *_parallelism("disaggregated.prefill", "wide-decode", SPLIT, "chat-prefill"),
    Case(path=f"{_SPLIT}.uncachedTokenThreshold", base="disaggregated", edits={f"{_SPLIT}.uncachedTokenThreshold": 31337}, changes=ROUTER_CONFIG, shows="31337"),
]  # fmt: skip

_ROUTER = [
    Case(path="spec.kvTierPolicyRef.name", edits={"spec.kvTierPolicyRef": {"name": "nowhere"}}, refused=("PolicyNotFound", "KVTierPolicy nowhere does not exist; create it")),
    Case(path="spec.router.mode", edits={"spec.router.mode": "Gateway", "spec.router.gateway.parentRefs": [{"name": "edge"}]}, changes=frozenset({ROUTE}), shows='"edge"'),
    Case(path="spec.router.gateway.parentRefs[].name", base="gateway", edits={f"{_PARENT}.name": "inner"}, changes=frozenset({ROUTE}), shows='"inner"'),
    Case(path="spec.router.gateway.parentRefs[].namespace", base="gateway", edits={f"{_PARENT}.namespace": "gateways"}, changes=frozenset({ROUTE}), shows='"gateways"'),
    Case(path="spec.router.gateway.parentRefs[].sectionName", base="gateway", edits={f"{_PARENT}.sectionName": "https"}, changes=frozenset({ROUTE}), shows='"https"'),
    Case(path="spec.router.gateway.parentRefs[].port", base="gateway", edits={f"{_PARENT}.port": 8443}, changes=frozenset({ROUTE}), shows="8443"),
    Case(path="spec.router.gateway.hostnames[]", base="gateway", edits={"spec.router.gateway.hostnames": ["chat.example.com"]}, changes=frozenset({ROUTE}), shows="chat.example.com"),
    Case(path="spec.router.endpointPicker.release", edits={"spec.router.endpointPicker.release": "gie-1.5"}, changes=ROUTER_CONFIG | {"Role/chat-router"}, shows="epp:v1.5.0"),
    Case(path="spec.router.endpointPicker.image", edits={"spec.router.endpointPicker.image": "example.com/picker:1"}, changes=frozenset({ROUTER}), shows="example.com/picker:1"),
    Case(path="spec.router.prefixRouting", edits={"spec.router.prefixRouting": "Precise"}, changes=ROUTER_CONFIG | PRECISE, shows="--kv-events-config"),
    Case(path="spec.router.requestTimeout", edits={"spec.router.requestTimeout": "7m"}, changes=ROUTER_CONFIG, shows="420s"),
    Case(path="spec.router.replicas", edits={"spec.router.replicas": 0}, changes=_LIVE | {ROUTER}, shows='"replicas": 0', variant="zero"),
    Case(path="spec.router.replicas", edits={"spec.router.replicas": 16, "spec.programScheduling.mode": "Observe"}, refused=("PickerStatePerPod", "programScheduling.mode: Enforce"), variant="max"),
    Case(path="spec.router.replicas", edits={"spec.router.replicas": 2}, base="precise", changes=ROUTER_CONFIG | ACTIVE | {TOKENIZER, "PodDisruptionBudget/chat-router", "PodDisruptionBudget/chat-tokenizer"}, shows='"replicas": 2'),
    Case(path="spec.disruption.drainTimeout", edits={"spec.disruption.drainTimeout": "2m"}, changes=ROUTER_CONFIG | {ENGINE}, shows="--shutdown-timeout=120"),
]  # fmt: skip

_STATE = "spec.programScheduling.state"
_VALKEY = f"{_STATE}.valkey"
_SCHEDULING = [
    Case(path="spec.programScheduling.mode", edits={"spec.programScheduling.mode": "Observe"}, changes=ROUTER_CONFIG, shows="Observe"),
    Case(path="spec.programScheduling.mode", edits={"spec.programScheduling.mode": "Off"}, changes=ROUTER_CONFIG | {"NetworkPolicy/chat-router", "PodMonitor/chat-router"}, hides="scheduler.json", variant="off"),
    Case(path=f"{_STATE}.backend", edits={f"{_STATE}.backend": "Valkey", f"{_VALKEY}.address": "v:6379"}, changes=ROUTER_CONFIG, shows="v:6379"),
    Case(path=f"{_VALKEY}.address", base="valkey", edits={f"{_VALKEY}.address": "w:6379"}, changes=ROUTER_CONFIG, shows="w:6379"),
    Case(path=f"{_VALKEY}.tls", base="valkey", edits={f"{_VALKEY}.tls": "Enabled"}, changes=ROUTER_CONFIG, shows='tls\\": true'),
    Case(path=f"{_VALKEY}.passwordSecretRef.name", base="valkey", edits={f"{_VALKEY}.passwordSecretRef.name": "other"}, changes=frozenset({ROUTER}), shows='"name": "other"'),
    Case(path=f"{_VALKEY}.passwordSecretRef.key", base="valkey", edits={f"{_VALKEY}.passwordSecretRef.key": "pw"}, changes=frozenset({ROUTER}), shows='"key": "pw"'),
]  # fmt: skip

_TEMPLATES = [
    Case(path=f"spec.podTemplate.{role}", base=base, edits={f"spec.podTemplate.{role}": {"spec": {"priorityClassName": "high"}}}, changes=frozenset({rolls}), shows='"high"')
    for role, base, rolls in (("aggregated", "aggregated", ENGINE), ("prefill", "disaggregated", PREFILL), ("decode", "disaggregated", DECODE), ("router", "aggregated", ROUTER))
]  # fmt: skip

_PROGRAM = [
    Case(path="spec.agents[].stackRef.name", base="program", edits={"spec.agents[0].stackRef.name": "nowhere"}, changes=_LIVE | {_OBJECTIVE}, status="no AgenticServingStack named nowhere"),
    Case(path="spec.match.clients[]", base="program", edits={"spec.match": {"clients": ["Codex"]}}, changes=_LIVE, shows="codex"),
    Case(path="spec.match.headers[].name", base="program", edits={"spec.match.headers[0].name": "x-team"}, changes=_LIVE, shows="x-team"),
    Case(path="spec.match.headers[].type", base="program", edits={"spec.match.headers[0].type": "RegularExpression"}, changes=_LIVE, shows="regex: p-"),
    Case(path="spec.match.headers[].value", base="program", edits={"spec.match.headers[0].value": "another"}, changes=_LIVE, shows="another"),
    Case(path="spec.match.headers[].value", base="program", edits={"spec.match": UNSET}, changes=_LIVE | {_OBJECTIVE}, hides="x-app", variant="unset"),
    Case(path="spec.identity.headers.session", base="program", edits={"spec.identity.headers.session": "x-my-run"}, changes=_LIVE, shows="x-my-run"),
    Case(path="spec.identity.headers.parent", base="identity", edits={"spec.identity.headers.parent": "x-my-parent"}, changes=_LIVE, shows="x-my-parent"),
    Case(path="spec.objective.completion.target", base="program", edits={"spec.objective.completion.target": "10m"}, changes=_LIVE, status="P95 of tasks complete within 10m"),
    Case(path="spec.objective.completion.percentile", base="objective", edits={"spec.objective.completion.percentile": "P99"}, changes=_LIVE, status="P99 of tasks complete within 5m"),
    Case(path="spec.objective.completion.unit", base="objective", edits={"spec.objective.completion.unit": "Run"}, changes=_LIVE, status="P95 of runs complete within 5m"),
    Case(path="spec.objective.firstTokenAfterTool.target", base="objective", edits={"spec.objective.firstTokenAfterTool.target": "3s"}, changes=_LIVE, status="P95 of first tokens after a tool come within 3s"),
    Case(path="spec.objective.firstTokenAfterTool.percentile", base="objective", edits={"spec.objective.firstTokenAfterTool.percentile": "P50"}, changes=_LIVE, status="P50 of first tokens after a tool come within 2s"),
    Case(path="spec.objective.priority", base="program", edits={"spec.objective.priority": 5}, changes=_LIVE | {_OBJECTIVE}, shows='"priority": 5'),
    Case(path="spec.objective.priority", base="program", edits={"spec.objective.priority": -1000}, changes=_LIVE | {_OBJECTIVE}, shows='"priority": -1000', variant="min"),
    Case(path="spec.objective.priority", base="objective", edits={"spec.objective.priority": 0}, changes=_LIVE | {_OBJECTIVE}, hides='"priority": 3', variant="zero"),
    Case(path="spec.objective.maxHold", base="program", edits={"spec.objective.maxHold": "45s"}, changes=_LIVE, shows='max_hold_s\\": 45.0'),
    Case(path="spec.objective.maxHold", base="program", edits={"spec.objective.maxHold": "0s"}, changes=_LIVE, shows='max_hold_s\\": 0.0', variant="zero"),
    Case(path="spec.identity.idleTimeout", base="program", edits={"spec.identity.idleTimeout": "7m"}, changes=_LIVE, shows='idle_s\\": 420.0'),
]  # fmt: skip

_POLICY = [
    Case(path="spec.hostMemory.backend", base="policy", edits={"spec.hostMemory.backend": "LMCache"}, changes=ROUTER_CONFIG | {ENGINE, "NetworkPolicy/chat-engine", "PodMonitor/chat-engine"}, shows="LMCache"),
    Case(path="spec.hostMemory.capacityPerReplica", base="policy", edits={"spec.hostMemory.capacityPerReplica": "20Gi"}, changes=ROUTER_CONFIG | {ENGINE}, shows="20Gi"),
    Case(path="spec.shared.persistentVolumeClaim.claimName", base="shared", edits={"spec.shared.persistentVolumeClaim.claimName": "others"}, shows='"claimName": "others"'),
    Case(path="spec.shared.persistentVolumeClaim.claimName", base="shared", edits={"spec.shared": UNSET}, changes=LMCACHE, hides="tier", variant="unset"),
    Case(path="spec.onUnsupported", base="cpu-policy", edits={"spec.onUnsupported": "Reject"}, refused=("TierUnsupported", "spec.kvTierPolicyRef: Aggregated: vLLM offloads KV cache only from")),
]  # fmt: skip

CASES: Mapping[str, list[Case]] = {
    "AgenticServingStack": [
        *_MODEL,
        *_ENGINE,
        *_ACCELERATOR,
        *_TOPOLOGY,
        *_ROUTER,
        *_SCHEDULING,
        *_TEMPLATES,
    ],
    "AgentProgram": _PROGRAM,
    "KVTierPolicy": _POLICY,
}
