"""Builders of our three kinds, as small as the renderer accepts; tests set what they are about."""

from typing import Any

from agentic_serving import names

__all__ = ["Manifest", "aggregated", "disaggregated", "policy", "program"]

Manifest = dict[str, Any]


def aggregated(name: str = "chat", *, replicas: int = 1, policy: str = "", **spec: Any) -> Manifest:
    """A stack of one pool; `spec` sets or replaces further fields."""
    model = {"name": "qwen3-32b", "source": {"huggingFace": {"repository": "Qwen/Qwen3-32B"}}}
    body: Manifest = {
        "model": model,
        "accelerator": {"preset": "nvidia-h200"},
        "topology": {"aggregated": {"replicas": replicas}},
    }
    if policy:
        body["kvTierPolicyRef"] = {"name": policy}
    return _object("AgenticServingStack", name, {**body, **spec})


def disaggregated(name: str = "split", *, prefill: int = 1, decode: int = 1, **spec: Any) -> Manifest:
    """A stack of prefill and decode pools."""
    pools = {"prefill": {"replicas": prefill}, "decode": {"replicas": decode}}
    return aggregated(name, topology={"disaggregated": pools}, **spec)


def program(name: str = "coding", *stacks: str, **spec: Any) -> Manifest:
    """A program on these stacks (`chat` if none is named), matched by a header of its own."""
    agents = [{"name": f"agent-{i}", "stackRef": {"name": s}} for i, s in enumerate(stacks or ("chat",))]
    match = {"headers": [{"name": "x-app", "value": name}]}
    return _object("AgentProgram", name, {"agents": agents, "match": match, **spec})


def policy(name: str = "host", *, backend: str = "Native", capacity: str = "10Gi", **spec: Any) -> Manifest:
    """A policy with a tier in host memory."""
    return _object(
        "KVTierPolicy", name, {"hostMemory": {"backend": backend, "capacityPerReplica": capacity}, **spec}
    )


def _object(kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
