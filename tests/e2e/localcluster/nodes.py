"""Fake nodes: enough labels and resources that the real scheduler places pods of every accelerator preset."""

from collections.abc import Mapping
from typing import Any

__all__ = ["DEFAULT_NODES", "NodeSpec", "manifest", "numbered"]

# A node as the tests write it: `name`, and optionally `labels`, `capacity`, `taints`.
NodeSpec = Mapping[str, Any]

# No real machine: large enough that only accelerators are ever scarce.
BASE_CAPACITY: dict[str, str] = {
    "cpu": "512",
    "memory": "8Ti",
    "ephemeral-storage": "64Ti",
    "hugepages-2Mi": "0",
    "pods": "1000",
}

# Labels as NVIDIA's GPU feature discovery and AMD's node labeller set them.
_NVIDIA = {"nvidia.com/gpu.present": "true"}
_AMD = {"amd.com/gpu.present": "true"}

DEFAULT_NODES: tuple[NodeSpec, ...] = (
    {"name": "nvidia-h100", "labels": {**_NVIDIA, "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
     "capacity": {"nvidia.com/gpu": "1024"}},
    {"name": "nvidia-h200", "labels": {**_NVIDIA, "nvidia.com/gpu.product": "NVIDIA-H200"},
     "capacity": {"nvidia.com/gpu": "1024"}},
    {"name": "nvidia-b200", "labels": {**_NVIDIA, "nvidia.com/gpu.product": "NVIDIA-B200"},
     "capacity": {"nvidia.com/gpu": "1024"}},
    {"name": "amd-mi300x", "labels": {**_AMD, "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"},
     "capacity": {"amd.com/gpu": "1024"}},
    {"name": "cpu", "labels": {}},
)  # fmt: skip


def numbered(count: int, specs: tuple[NodeSpec, ...] = DEFAULT_NODES) -> tuple[NodeSpec, ...]:
    """`count` nodes, taken from `specs` in turn, named `<name>-<number>`."""
    return tuple(
        {**specs[i % len(specs)], "name": f"{specs[i % len(specs)]['name']}-{i}"} for i in range(count)
    )


def manifest(spec: NodeSpec) -> dict[str, Any]:
    """The Node object of a spec; kwok keeps its status and its lease alive."""
    name = spec["name"]
    capacity = {**BASE_CAPACITY, **spec.get("capacity", {})}
    labels = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
        "type": "kwok",
        **spec.get("labels", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": list(spec.get("taints", []))},
        "status": {"capacity": capacity, "allocatable": capacity},
    }
