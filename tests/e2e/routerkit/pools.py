"""A pool of two echoing pods on a real API server, as an endpoint picker sees it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentic_serving.names import REVISION_LABEL
from agentic_serving.render.picker import picker_rbac
from agentic_serving.render.releases import load_release, release_names
from tests.e2e.localcluster.cluster import Cluster
from tests.e2e.routerkit.upstream import echo

__all__ = ["Pool", "pool_of_two"]

NAMESPACE = "router"
#: Pickers read pods, not EndpointSlices, so loopback addresses do; both pods listen on the pool's one port.
PREFILL_ADDRESS, DECODE_ADDRESS = "127.0.0.2", "127.0.0.3"
DEAD_ADDRESS = "127.0.0.4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The pool `pool` and its pods' endpoints; as an aggregated pool, it has two replicas."""

    cluster: Cluster
    name: str
    namespace: str
    prefill: str
    decode: str
    kubeconfigs: Mapping[str, Path]  # by release: the picker's own account, with no rights but its Role's

    def set_revision(self, pod: str, revision: str) -> None:
        """Labels the pod `prefill` or `decode` as one of that revision; both begin as `one`."""
        label = f"{REVISION_LABEL}={revision}"
        self.cluster.kubectl("label", "pod", pod, "-n", self.namespace, "--overwrite", label)

    @contextmanager
    def dead_pod(self) -> Iterator[str]:
        """The endpoint of a pod, Ready as long as the block runs, that refuses connections."""
        _start(self.cluster, "dead", DEAD_ADDRESS)
        try:
            yield f"{DEAD_ADDRESS}:{self.decode.rsplit(':', 1)[1]}"
        finally:
            self.cluster.kubectl("delete", "pod", "dead", "-n", self.namespace, "--force", "--grace-period=0")


@contextmanager
def pool_of_two(cluster: Cluster) -> Iterator[Pool]:
    """InferencePool, an objective of each picker's group, and two Ready pods."""
    with echo(PREFILL_ADDRESS) as first:
        port = int(first.endpoint.rsplit(":", 1)[1])
        with echo(DECODE_ADDRESS, port) as second:
            cluster.create_namespace(NAMESPACE)
            cluster.apply([_service_account("default"), _inference_pool(port), *_objectives()])
            for name, address in (("prefill", PREFILL_ADDRESS), ("decode", DECODE_ADDRESS)):
                _start(cluster, name, address)
            yield Pool(
                cluster=cluster,
                name="pool",
                namespace=NAMESPACE,
                prefill=first.endpoint,
                decode=second.endpoint,
                kubeconfigs={release: _account(cluster, release) for release in release_names()},
            )


def _start(cluster: Cluster, name: str, address: str) -> None:
    cluster.apply([_pod(name)])
    status = json.dumps({"status": _ready(address)})
    cluster.kubectl(
        "patch", "pod", name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", status
    )  # fmt: skip


def _account(cluster: Cluster, release: str) -> Path:
    """A kubeconfig for the account that the rendered Role is bound to."""
    name = f"picker-{release}"
    rbac = "rbac.authorization.k8s.io"
    cluster.apply(
        [
            _service_account(name),
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "Role",
                "metadata": _meta(name),
                "rules": picker_rbac(load_release(release)),
            },
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": _meta(name),
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
            },
        ]
    )
    return cluster.user_kubeconfig(NAMESPACE, name)


def _service_account(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(name)}


def _inference_pool(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": _meta("pool"),
        "spec": {
            "selector": {"matchLabels": {"app": "engine"}},
            "targetPorts": [{"number": port}],
            "endpointPickerRef": {"name": "picker", "port": {"number": 9002}},
        },
    }


def _objectives() -> Iterator[dict[str, Any]]:
    for group in ("llm-d.ai", "inference.networking.x-k8s.io"):
        yield {
            "apiVersion": f"{group}/v1alpha2",
            "kind": "InferenceObjective",
            "metadata": _meta("urgent"),
            "spec": {"priority": 7, "poolRef": {"name": "pool"}},
        }


def _pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **_meta(name),
            "labels": {"app": "engine", "llm-d.ai/role": name, REVISION_LABEL: "one"},
        },
        "spec": {"nodeName": "none", "containers": [{"name": "engine", "image": "echo"}]},
    }


def _ready(address: str) -> dict[str, Any]:
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }


def _meta(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE}
