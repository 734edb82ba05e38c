"""What stands beside engines and router: the tokenizer of precise prefix routing, and LMCache's coordinator."""

from collections.abc import Iterator
from typing import Any

from agentic_serving.api.rules import Rule
from agentic_serving.engines import vllm
from agentic_serving.engines.images import image
from agentic_serving.render.basis import Basis
from agentic_serving.render.engine import CACHE_PATH, PlannedPool, coordinator_name
from agentic_serving.render.manifest import Manifest
from agentic_serving.render.ports import COORDINATOR_PORT, TOKENIZER_PORT
from agentic_serving.render.templates import fill
from agentic_serving.render.workload import SURGE, Workload
from agentic_serving.tiers.base import Coordinator

__all__ = ["coordinator", "supporting_services", "tokenizer", "tokenizer_url"]

_TOKENIZER = Rule(
    id="tokenizer/deployment",
    reason="precise prefix routing compares the tokens of a prompt with the blocks that engines report, so prompts are rendered to "
    "tokens by the engine's own code, without a device; the picker waits 5 s for it at most",
    source="llm-d v0.10, docs/architecture/router (token-producer, vllm backend); vLLM 0.33.0, `vllm launch render`",
)
_COORDINATOR = Rule(
    id="lmcache/coordinator",
    reason="the LMCache servers of all replicas register with one coordinator, which knows who holds what in the shared tier",
    source="LMCache 0.5.6, `lmcache coordinator`",
)
#: The first start downloads the tokenizer; its startup probe waits 5 s x 120.
_TOKENIZER_START_S = 600


def tokenizer_url(basis: Basis) -> str:
    """Where the picker finds the tokenizer. Without the cluster's domain, which nobody here knows."""
    return f"http://{basis.owner.child('tokenizer')}.{basis.owner.namespace}.svc:{TOKENIZER_PORT}"


def tokenizer(basis: Basis) -> Workload | None:
    """The tokenizer's Deployment; None unless routing is precise."""
    if not basis.precise:
        return None
    owner, model = basis.owner, basis.weights
    pod = fill(
        "tokenizer_pod",
        labels=owner.labels("tokenizer"),
        user=vllm.RUN_AS_USER,
        image=image("tokenizer", "cpu", version=basis.version),
        args=list(vllm.tokenizer_args(model.model_ref, revision=model.revision, port=TOKENIZER_PORT)),
        env=_tokenizer_env(basis),
        port=TOKENIZER_PORT,
        mounts=[{"name": "cache", "mountPath": CACHE_PATH}, *map(dict, model.mounts)],
        volumes=[{"name": "cache", "emptyDir": {}}, *map(dict, model.volumes)],
    )
    return Workload(
        name=owner.child("tokenizer"),
        component="tokenizer",
        # One per router pod: a picker without tokens routes by load alone.
        replicas=basis.spec.router.replicas,
        pod=pod,
        rolling_update=SURGE,
        start_s=_TOKENIZER_START_S,
        rules=(_TOKENIZER,),
    )


def _tokenizer_env(basis: Basis) -> list[dict[str, Any]]:
    values = {
        "HOME": CACHE_PATH,
        "USER": "vllm",
        "HF_HOME": f"{CACHE_PATH}/huggingface",
        "VLLM_CACHE_ROOT": f"{CACHE_PATH}/vllm",
        "VLLM_NO_USAGE_STATS": "1",
    }
    if basis.weights.mounts:
        values["HF_HUB_OFFLINE"] = "1"
    env: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in values.items()]
    token = basis.weights.token
    if token is not None:
        reference = {"secretKeyRef": {"name": token.name, "key": token.key}}
        env.append({"name": "HF_TOKEN", "valueFrom": reference})
    return env


def coordinator(basis: Basis, pools: tuple[PlannedPool, ...]) -> Workload | None:
    """The coordinator's Deployment; None unless a tier is shared."""
    plan = _coordinator_plan(pools)
    if plan is None:
        return None
    pod = fill(
        "coordinator_pod",
        labels=basis.owner.labels("lmcache"),
        user=vllm.RUN_AS_USER,
        image=plan.image,
        command=list(plan.command),
        args=list(plan.args),
        env=[{"name": setting.name, "value": setting.value} for setting in plan.env],
        port=plan.port,
        health_path=plan.health_path,
        resources=dict(plan.resources),
        cache_path=CACHE_PATH,
    )
    return Workload(
        name=coordinator_name(basis),
        component="lmcache",
        replicas=1,
        pod=pod,
        # Two coordinators would each know half of the servers: the old one goes first.
        rolling_update={"maxSurge": 0, "maxUnavailable": 1},
        start_s=_TOKENIZER_START_S,
        rules=(_COORDINATOR, *plan.rules),
    )


def supporting_services(basis: Basis, pools: tuple[PlannedPool, ...]) -> Iterator[Manifest]:
    if basis.precise:
        yield _service(basis, basis.owner.child("tokenizer"), "tokenizer", TOKENIZER_PORT, _TOKENIZER)
    if _coordinator_plan(pools) is not None:
        yield _service(basis, coordinator_name(basis), "lmcache", COORDINATOR_PORT, _COORDINATOR)


def _coordinator_plan(pools: tuple[PlannedPool, ...]) -> Coordinator | None:
    return next((planned.tier.coordinator for planned in pools if planned.tier.coordinator), None)


def _service(basis: Basis, name: str, component: str, port: int, rule: Rule) -> Manifest:
    body = fill(
        "service",
        metadata=basis.owner.metadata(name, component),
        selector=basis.owner.selector(component),
        ports=[{"name": "http", "port": port, "targetPort": port, "protocol": "TCP", "appProtocol": "http"}],
    )
    return Manifest(body=body, rules=(rule,))
