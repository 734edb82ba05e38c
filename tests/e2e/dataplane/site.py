"""A served stack, and the questions that tests ask about it from outside."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import ApiClient, Manifest
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.operator_process import OperatorProcess
from tests.e2e.processnode.node import ProcessNode
from tests.e2e.stacks import aggregated
from tests.e2e.world import reports, wait_until

__all__ = ["MODEL", "Site", "Stack", "cpu_stack", "new_session"]

MODEL = "tiny"
#: Engines of the simulator start in seconds; a busy machine gets many times that.
_READY_TIMEOUT_S = 180.0


def cpu_stack(name: str, *, replicas: int = 2, **spec: Any) -> Manifest:
    """An aggregated stack on the CPU preset behind the upstream picker; what it drains ends within 5 s."""
    body = {
        "model": {"name": MODEL, "source": {"huggingFace": {"repository": "Qwen/Qwen3-0.6B"}}},
        "accelerator": {"preset": "cpu", "overrides": {"cpu": "1", "hostMemory": "4Gi"}},
        "router": {"endpointPicker": {"release": "gie-1.5"}},
        "disruption": {"drainTimeout": "5s"},
    }
    return aggregated(name, replicas=replicas, **{**body, **spec})


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The cluster and what works on it."""

    cluster: ControlPlane
    node: ProcessNode
    operator: OperatorProcess
    api: ApiClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A stack that serves."""

    site: Site
    namespace: str
    name: str
    endpoint: str  # as seen from the host
    model: str = MODEL

    @classmethod
    def serve(
        cls,
        site: Site,
        namespace: str,
        name: str,
        *,
        replicas: int = 2,
        until: tuple[str, str] = ("Ready", "True"),
        **spec: Any,
    ) -> Self:
        """Apply a stack and wait until a condition holds."""
        site.api.apply(cpu_stack(name, replicas=replicas, **spec), namespace)
        site.api.wait(kinds.STACK, namespace, name, reports(*until), timeout_s=_READY_TIMEOUT_S)
        service = site.api.get(kinds.SERVICE, namespace, name)
        address = f"http://{service['spec']['clusterIP']}"
        return cls(site=site, namespace=namespace, name=name, endpoint=address)

    def ready(self, *, timeout_s: float = _READY_TIMEOUT_S) -> Manifest:
        """Wait until the newest spec is Ready."""
        return self.site.api.wait(
            kinds.STACK, self.namespace, self.name, reports("Ready", "True"), timeout_s=timeout_s
        )

    def merge(self, patch: Mapping[str, Any]) -> Manifest:
        return self.site.api.merge(kinds.STACK, self.namespace, self.name, patch)

    def pods(self, component: str) -> list[Manifest]:
        """Pods of `engine` or `router` that are not being deleted."""
        selector = f"agentic-serving.dev/stack={self.name},app.kubernetes.io/component={component}"
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={selector}"
        items: list[Manifest] = self.site.cluster.request("GET", path).json()["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def engines(self, count: int) -> None:
        """Wait until there are so many engine pods."""
        self._await(lambda: len(self.pods("engine")) == count, f"{count} engine pods", timeout_s=60)

    def access_log(self) -> list[dict[str, Any]]:
        """Envoy's access log, every router pod's, in the order of each."""
        found: list[dict[str, Any]] = []
        for pod in self.pods("router"):
            text = self.site.node.logs(self.namespace, pod["metadata"]["name"], "envoy")
            lines = (line for line in text.splitlines() if line.startswith("{"))
            found += [json.loads(line) for line in lines]
        return found

    def complaints(self) -> str:
        """What Envoy says about requests that did not end well, for the message of a failed test."""
        odd = [e for e in self.access_log() if e.get("code") != 200 or e.get("flags") not in (None, "-")]
        keys = ("time", "code", "flags", "details", "duration_ms", "pod")
        return "\n".join(str({k: e.get(k) for k in keys}) for e in odd)

    def served_by(self, session: str, *, turns: int) -> list[str]:
        """The addresses that answered the first `turns` turns of a session, in order; waits for the log to tell."""

        def lines() -> list[str]:
            own = [e for e in self.access_log() if session in str(e.get("queue"))]
            return [str(e["pod"]) for e in own]

        self._await(lambda: len(lines()) >= turns, f"{turns} turns of {session} in the access log")
        return lines()[:turns]

    def _await(self, holds: Callable[[], object], what: str, *, timeout_s: float = 20) -> None:
        wait_until(holds, what=what, timeout_s=timeout_s)


def new_session() -> str:
    """A session id that nobody used."""
    return f"ses-{uuid.uuid4().hex[:12]}"
