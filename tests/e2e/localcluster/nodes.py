"""Fake nodes: enough labels and resources that the real scheduler places pods of every accelerator preset."""

from collections.abc import Mapping
from typing import Any

__all__ = ["DEFAULT_NODES", "NodeSpec", "manifest", "numbered"]

# A node as the tests write it: `name`, and optionally `labels`, `capacity`, `taints`.
NodeSpec = Mapping[str, Any]

# No real machine: large enough that only accelerators are ever scarce.
BASE_CAPACITY: dict[str, str] = {
    "cpu": "16384",
    "memory": "64Ti",
    "ephemeral-storage": "64Ti",
    "hugepages-2Mi": "0",
    "pods": "1000",
}

# As GPU feature discovery labels a node, and as GKE and most operators of clusters taint it.
# https://github.com/NVIDIA/k8s-device-plugin/blob/main/docs/gpu-feature-discovery/README.md
_NVIDIA_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def _nvidia(name: str, product: str) -> NodeSpec:
    return {
        "name": name,
        "labels": {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": product},
        "capacity": {"nvidia.com/gpu": "1024"},
        "taints": [_NVIDIA_TAINT],
    }


DEFAULT_NODES: tuple[NodeSpec, ...] = (
    _nvidia("nvidia-h100", "NVIDIA-H100-80GB-HBM3"),
    _nvidia("nvidia-h200", "NVIDIA-H200"),
    _nvidia("nvidia-b200", "NVIDIA-B200"),
    {
        "name": "amd-mi300x",
        # As AMD's node labeller writes them: 74a1 is the MI300X OAM's PCI device.
        "labels": {"amd.com/gpu.device-id": "74a1", "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM"},
        "capacity": {"amd.com/gpu": "1024"},
    },
    {"name": "cpu", "labels": {}},
)


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
