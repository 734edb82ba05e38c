"""Real or simulated engines as the pods of one pool: processes on loopback, and the objects that say so on a real API server."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from agentic_serving.names import MANAGED_BY_LABEL, MANAGED_BY_VALUE, ROLE_LABEL, STACK_LABEL
from agentic_serving.render.picker import picker_rbac
from agentic_serving.render.releases import PickerRelease
from tests.e2e.localcluster.cluster import Cluster
from tests.e2e.localcluster.process import Workplace, free_ports
from tests.e2e.realengines import tiny_model
from tests.e2e.realengines.client import Client
from tests.e2e.realengines.processes import Engine, Served, start_sim, start_vllm

__all__ = ["POOL", "POOL_NAMESPACE", "STACK", "EnginePool", "EngineSize", "engine_pool"]

POOL_NAMESPACE, POOL, STACK = "chain", "pool", "chat"
#: Of all engine pods of the stack.
POD_LABELS = {MANAGED_BY_LABEL: MANAGED_BY_VALUE, STACK_LABEL: STACK}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSize:
    """How large each engine is; tokens.

    Attributes:
        cache_tokens: of the KV cache; a prompt and its answer must fit.
        block_tokens: vLLM's CPU build takes multiples of 32.
    """

    cache_tokens: int = 32_768
    block_tokens: int = 32
    max_seqs: int = 16
    step_tokens: int = 2048

    def arguments(self) -> tuple[str, ...]:
        blocks = self.cache_tokens // self.block_tokens
        return (
            f"--max-model-len={self.cache_tokens}",
            "--enable-prefix-caching",
            f"--block-size={self.block_tokens}",
            f"--num-gpu-blocks-override={blocks + 1}",
            f"--max-num-seqs={self.max_seqs}",
            f"--max-num-batched-tokens={self.step_tokens}",
            "--enable-prompt-tokens-details",
            "--enable-force-include-usage",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePool:
    """The pool `POOL` of `POOL_NAMESPACE`: its engines are Ready pods `engine-0`, `engine-1`, ...

    Attributes:
        events_port: where its engine publishes KV events; 0: nowhere.
    """

    cluster: Cluster
    engines: tuple[Engine, ...]
    size: EngineSize
    port: int
    events_port: int = 0

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(f"{engine.client.host}:{self.port}" for engine in self.engines)

    def forget(self) -> None:
        """Empty the engines' caches."""
        for engine in self.engines:
            assert engine.client.post("/reset_prefix_cache").status == 200

    def picker_account(self, release: PickerRelease) -> Path:
        """A kubeconfig with the rights that the operator renders for this release's picker."""
        return _account(self.cluster, f"picker-{release.name}", picker_rbac(release))


@contextmanager
def engine_pool(
    cluster: Cluster,
    *,
    kind: Literal["vllm", "sim"],
    size: EngineSize,
    count: int = 2,
    env: Mapping[str, str] | None = None,
    events: bool = False,
) -> Iterator[EnginePool]:
    """Engines that serve the tiny model, and their pool.

    Args:
        env: of the engines' processes.
        events: the engine publishes KV events, as with precise routing: on all addresses of the machine, so there can be
            only one.
    """
    with Workplace("agentic-engines-") as place:
        port, events_port = free_ports(2)
        assert count == 1 or not events
        start = start_vllm if kind == "vllm" else start_sim
        arguments = (*size.arguments(), *([_published(events_port)] if events else []))
        served = Served(model=tiny_model(), arguments=arguments, env=env or {}, port=port)
        started = [_start(start, place, served, index) for index in range(count)]
        engines = tuple(engine.await_ready() for engine in started)
        cluster.create_namespace(POOL_NAMESPACE)
        cluster.apply([_service_account("default"), _inference_pool(port)])
        for index, engine in enumerate(engines):
            _pod(cluster, f"engine-{index}", engine.client.host)
        yield EnginePool(
            cluster=cluster, engines=engines, size=size, port=port, events_port=events_port if events else 0
        )


def _published(port: int) -> str:
    """As the operator renders it."""
    topic = "kv@127.0.0.2:8000@tiny"
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": f"tcp://*:{port}",
        "topic": topic,
    }
    return f"--kv-events-config={json.dumps(config)}"


def _start(start: Any, place: Workplace, served: Served, index: int) -> Engine:  # noqa: ANN401 - one of two functions
    host = f"127.0.0.{2 + index}"
    arguments = (*served.arguments, f"--host={host}")
    engine: Engine = start(place, replace(served, name=f"engine-{index}", arguments=arguments))
    return replace(engine, client=Client(served.port, host))


def _inference_pool(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": _meta(POOL),
        "spec": {
            "selector": {"matchLabels": POD_LABELS},
            "targetPorts": [{"number": port}],
            "endpointPickerRef": {"name": "picker", "port": {"number": 9002}},
        },
    }


def _pod(cluster: Cluster, name: str, address: str) -> None:
    """Ready at once: pickers and schedulers read pods, not EndpointSlices, so loopback addresses do."""
    labels = {**POD_LABELS, ROLE_LABEL: "aggregated", "llm-d.ai/role": "decode"}
    spec = {"nodeName": "none", "containers": [{"name": "engine", "image": "process"}]}
    cluster.apply(
        [{"apiVersion": "v1", "kind": "Pod", "metadata": {**_meta(name), "labels": labels}, "spec": spec}]
    )
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    patch = json.dumps({"status": status})
    cluster.kubectl(
        "patch", "pod", name, "-n", POOL_NAMESPACE, "--subresource=status", "--type=merge", "-p", patch
    )  # fmt: skip


def _account(cluster: Cluster, name: str, rules: Sequence[Mapping[str, Any]]) -> Path:
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": name, "namespace": POOL_NAMESPACE}
    reference = {"apiGroup": rbac, "kind": "Role", "name": name}
    cluster.apply(
        [
            _service_account(name),
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": _meta(name), "rules": list(rules)},
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": _meta(name),
                "roleRef": reference,
                "subjects": [subject],
            },
        ]
    )
    return cluster.user_kubeconfig(POOL_NAMESPACE, name)


def _service_account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(name)}


def _meta(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": POOL_NAMESPACE}
