"""Pods on a process node, for the tests of the process node itself."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind
from tests.e2e.apiclient import ApiClient, ApiError, Manifest
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.processnode.images import TEST_IMAGE
from tests.e2e.processnode.network import Network
from tests.e2e.processnode.node import Backoff, ProcessNode

__all__ = ["CORE_EVENT", "Bench", "container", "open_bench", "shell", "state", "terminated"]

#: The node's events as kubectl shows them; `kinds.EVENT` is the newer group's view of the same objects.
CORE_EVENT = Kind("", "v1", "Event", "events")
#: A second instead of ten: what is tested is the order of things, not the length of the delay.
_BACKOFF = Backoff(initial_s=1, max_s=4)
_SOON_S = 20.0  # what takes well under a second on an idle machine


def container(name: str, *command: str, **fields: Any) -> Manifest:
    return {"name": name, "image": TEST_IMAGE, "command": list(command), **fields}


def shell(name: str, script: str, **fields: Any) -> Manifest:
    return container(name, "sh", "-c", script, **fields)


def state(pod: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The status of a container; empty before it has one."""
    status = pod.get("status", {})
    found = (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ()))
    return next((dict(s) for s in found if s["name"] == name), {})


def terminated(pod: Mapping[str, Any], name: str) -> dict[str, Any]:
    """How a container ended: now, or before it was started again or held back; empty if it has not."""
    found = state(pod, name)
    for which in ("state", "lastState"):
        ended = found.get(which, {}).get("terminated")
        if ended:
            return dict(ended)
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A namespace, and pods in it."""

    cluster: ControlPlane
    network: Network
    node: ProcessNode
    api: ApiClient
    namespace: str

    def create(self, obj: Mapping[str, Any]) -> Manifest:
        """Any object that has a namespace, of the core group."""
        plural = {"PersistentVolumeClaim": "persistentvolumeclaims"}.get(
            obj["kind"], f"{obj['kind'].lower()}s"
        )
        path = f"/api/v1/namespaces/{self.namespace}/{plural}"
        return self.api.call("POST", path, {"apiVersion": "v1", **obj})

    def config_map(self, name: str, **data: str) -> None:
        self.create({"kind": "ConfigMap", "metadata": {"name": name}, "data": data})

    def pod(
        self, *containers: Manifest, name: str = "", metadata: Mapping[str, Any] | None = None, **spec: Any
    ) -> str:
        """Create a pod that ends quickly when it is deleted; its name."""
        chosen = name or f"p-{uuid.uuid4().hex[:8]}"
        body = {"terminationGracePeriodSeconds": 1, "containers": list(containers), **spec}
        self.create({"kind": "Pod", "metadata": {"name": chosen, **(metadata or {})}, "spec": body})
        return chosen

    def wait(self, pod: str, holds: Callable[[Manifest], object], *, timeout_s: float = _SOON_S) -> Manifest:
        return self.api.wait(kinds.POD, self.namespace, pod, holds, timeout_s=timeout_s)

    def ready(self, pod: str, status: str = "True") -> Manifest:
        def holds(obj: Manifest) -> bool:
            found = obj.get("status", {}).get("conditions", ())
            return any(c["type"] == "Ready" and c["status"] == status for c in found)

        return self.wait(pod, holds)

    def phase(self, pod: str, *phases: str) -> Manifest:
        return self.wait(pod, lambda obj: obj.get("status", {}).get("phase") in phases)

    def output(self, script: str, *, before: list[Manifest] | None = None, spec: Mapping[str, Any] | None = None,
               metadata: Mapping[str, Any] | None = None, **fields: Any) -> str:  # fmt: skip
        """Run a script as a pod's only container to its end; what it printed."""
        given = {"restartPolicy": "Never", **({"initContainers": before} if before else {}), **(spec or {})}
        pod = self.pod(shell("main", script, **fields), metadata=metadata, **given)
        self.phase(pod, "Succeeded", "Failed")
        return self.logs(pod, "main")

    def logs(self, pod: str, name: str, *, previous: bool = False) -> str:
        return self.node.logs(self.namespace, pod, name, previous=previous)

    def delete(self, pod: str, grace_s: int | None = None) -> None:
        body = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        self.api.call("DELETE", f"/api/v1/namespaces/{self.namespace}/pods/{pod}", body)

    def gone(self, pod: str, *, timeout_s: float = _SOON_S) -> None:
        self.api.wait_gone(kinds.POD, self.namespace, pod, timeout_s=timeout_s)

    def event(self, pod: str, reason: str) -> str:
        """Wait for an Event about a pod; its message."""
        deadline_s = time.monotonic() + _SOON_S
        while True:
            for found in self.api.list(CORE_EVENT, self.namespace):
                if found["involvedObject"].get("name") == pod and found["reason"] == reason:
                    return str(found["message"])
            if time.monotonic() > deadline_s:
                raise AssertionError(f"no event {reason} about {pod}")
            time.sleep(0.05)


@contextmanager
def open_bench(**node: Any) -> Iterator[Bench]:
    """A control plane with a process node as its only node, and a namespace."""
    with (
        ControlPlane(Options(process_nodes=True, nodes=())) as cluster,
        Network(cluster) as network,
        ProcessNode(cluster, network, backoff=_BACKOFF, **node) as running,
    ):
        api = ApiClient(cluster, cluster.admin_token)
        bench = Bench(cluster=cluster, network=network, node=running, api=api, namespace="pods")
        api.call("POST", "/api/v1/namespaces", {"metadata": {"name": bench.namespace}})
        _await_service_account(api, bench.namespace)
        yield bench
        api.close()


def _await_service_account(api: ApiClient, namespace: str) -> None:
    """Pods are refused until the namespace has one."""
    deadline_s = time.monotonic() + _SOON_S
    while True:
        try:
            api.get(kinds.SERVICE_ACCOUNT, namespace, "default")
            return
        except ApiError as error:
            if error.code != 404 or time.monotonic() > deadline_s:
                raise
        time.sleep(0.05)
