"""A namespace where an operator works, and the questions that tests ask about it.

world.apply(aggregated("chat"), policy("host"))
world.ready("chat")
assert "Deployment/chat-engine" in world.children("chat")
"""

import copy
import itertools
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agentic_serving import names
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind

from .apiclient import ApiClient, ApiError, Manifest
from .localcluster.controlplane import ControlPlane
from .operator_process import USER, OperatorProcess

__all__ = [
    "CHILD_KINDS",
    "FAST",
    "UNSET",
    "World",
    "condition",
    "edited",
    "essence",
    "fresh_world",
    "identities",
    "metric",
    "observed",
    "reports",
    "settled",
    "wait_until",
]

#: Settings of an operator that answers quickly: for tests, which wait for what it does.
FAST: Mapping[str, object] = {
    "coalesce_s": 0.1,
    "status_interval_s": 0.5,
    "scheduler_look_s": 1,
    "pod_report_after_s": 1,
    "discovery_s": 1,
    "leader_election": "false",
}
#: Takes a field away in `edited`.
UNSET = object()
#: Every kind that a stack can own.
CHILD_KINDS: tuple[Kind, ...] = (
    kinds.DEPLOYMENT,
    kinds.SERVICE,
    kinds.CONFIG_MAP,
    kinds.SERVICE_ACCOUNT,
    kinds.ROLE,
    kinds.ROLE_BINDING,
    kinds.POD_DISRUPTION_BUDGET,
    kinds.NETWORK_POLICY,
    kinds.HTTP_ROUTE,
    kinds.INFERENCE_POOL,
    kinds.LLMD_INFERENCE_OBJECTIVE,
    kinds.GIE_INFERENCE_OBJECTIVE,
    kinds.POD_MONITOR,
)
#: Longer than FAST's coalescing, status interval and the second that dependents wait.
_QUIET_S = 1.6
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
#: Written by the API server and its controllers, so not part of what somebody asked for.
_SERVERS_OWN = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")


def edited(obj: Mapping[str, Any], changes: Mapping[str, object]) -> Manifest:
    """A copy with fields set (`spec.router.replicas`, `spec.agents[0].name`) or, by UNSET, taken away."""
    result: Manifest = copy.deepcopy(dict(obj))
    for path, value in changes.items():
        _edit(result, path, value)
    return result


def _edit(obj: Manifest, path: str, value: object) -> None:
    steps: list[Any] = [int(number) if number else word for word, number in _STEP.findall(path)]
    at: Any = obj
    for step, following in itertools.pairwise(steps):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(step, int) and step == len(at):
            at.append(empty)
        elif isinstance(step, str):
            at.setdefault(step, empty)
        at = at[step]
    last = steps[-1]
    if value is UNSET:
        del at[last]
    elif isinstance(last, int) and last == len(at):
        at.append(value)
    else:
        at[last] = value


def condition(obj: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """The condition of that type; an empty one if it is not there."""
    found = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in found if c["type"] == type_), {})


def reports(type_: str, status: str, reason: str | None = None) -> Callable[[Manifest], bool]:
    """A question for `World.wait`: whether a condition says this about the newest generation."""

    def holds(obj: Manifest) -> bool:
        found = condition(obj, type_)
        newest = found.get("observedGeneration") == obj["metadata"]["generation"]
        return newest and found.get("status") == status and reason in (None, found.get("reason"))

    return holds


def observed(obj: Manifest) -> bool:
    """Whether the operator has dealt with the newest spec: refused it, or applied it."""
    return reports("Accepted", "False")(obj) or reports("Applied", "True")(obj)


def essence(obj: Mapping[str, Any], *, uid: str = "") -> Manifest:
    """What somebody asked for in an object: nothing of the server's, and the owner's uid by a constant."""
    result: Manifest = copy.deepcopy({k: v for k, v in obj.items() if k != "status"})
    metadata = result["metadata"]
    for field in _SERVERS_OWN:
        metadata.pop(field, None)
    annotations = metadata.get("annotations", {})
    annotations.pop("deployment.kubernetes.io/revision", None)
    if not annotations:
        metadata.pop("annotations", None)
    if result.get("kind") == "Service" and result["spec"].get("clusterIP") != "None":
        for field in ("clusterIP", "clusterIPs"):
            result["spec"].pop(field, None)
    text = json.dumps(result, sort_keys=True)
    anonymous: Manifest = json.loads(text.replace(uid, "UID") if uid else text)
    return anonymous


def identities(children: Mapping[str, Manifest]) -> dict[str, tuple[str, int]]:
    """Of each child who it is and how often its spec changed: equal before and after means untouched."""
    return {key: (c["metadata"]["uid"], c["metadata"].get("generation", 0)) for key, c in children.items()}


def wait_until(holds: Callable[[], object], *, what: str, timeout_s: float = 30) -> None:
    """Poll something that has no watch, such as a metric.

    Raises:
        AssertionError: it did not hold in time.
    """
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.05)


def metric(text: str, name: str, **labels: str) -> float:
    """The sum over all series of a metric that have these labels."""
    total = 0.0
    for line in text.splitlines():
        if line.startswith((f"{name}{{", f"{name} ")) and all(
            f'{k}="{v}"' in line for k, v in labels.items()
        ):
            total += float(line.rsplit(" ", 1)[1])
    return total


def settled(operator: OperatorProcess, *, timeout_s: float = 60) -> None:
    """Wait until the operator is at rest: no key is due, and none was reconciled for a while.

    Raises:
        AssertionError: it is still at work.
    """
    seen: list[tuple[float, float]] = []  # reconciles so far, and when they were first that many

    def quiet() -> bool:
        text = operator.metrics()
        done = metric(text, "agentic_serving_reconcile_total")
        if not seen or seen[-1][0] != done or metric(text, "agentic_serving_workqueue_depth"):
            seen.append((done, time.monotonic()))
        return time.monotonic() - seen[-1][1] > _QUIET_S

    wait_until(quiet, what="the operator to be at rest", timeout_s=timeout_s)


@dataclass(slots=True, kw_only=True)
class World:
    """A namespace on a control plane where an operator works."""

    cluster: ControlPlane
    operator: OperatorProcess
    namespace: str
    api: ApiClient

    def apply(self, *objects: Mapping[str, Any]) -> list[Manifest]:
        """Apply as an administrator; the answers."""
        return [self.api.apply(obj, self.namespace) for obj in objects]

    def get(self, kind: Kind, name: str) -> Manifest:
        return self.api.get(kind, self.namespace, name)

    def delete(self, kind: Kind, name: str) -> None:
        self.api.delete(kind, self.namespace, name)

    def merge(self, kind: Kind, name: str, patch: Mapping[str, Any]) -> Manifest:
        """Edit an object by hand, as `kubectl patch --type=merge` does."""
        return self.api.merge(kind, self.namespace, name, patch)

    def wait(
        self, kind: Kind, name: str, holds: Callable[[Manifest], object], *, timeout_s: float = 30
    ) -> Manifest:
        return self.api.wait(kind, self.namespace, name, holds, timeout_s=timeout_s)

    def ready(self, name: str, kind: Kind = kinds.STACK, *, timeout_s: float = 60) -> Manifest:
        """Wait until the object is Ready in its newest generation."""
        return self.wait(kind, name, reports("Ready", "True"), timeout_s=timeout_s)

    def applied(self, name: str, *, timeout_s: float = 30) -> Manifest:
        """Wait until every child of the stack is as the newest spec asks."""
        return self.wait(kinds.STACK, name, reports("Applied", "True"), timeout_s=timeout_s)

    def refused(self, name: str, reason: str | None = None, kind: Kind = kinds.STACK) -> str:
        """Wait until the newest spec is not accepted; the message."""
        obj = self.wait(kind, name, reports("Accepted", "False", reason))
        return str(condition(obj, "Accepted")["message"])

    def children(self, name: str, owned: Iterable[Kind] = CHILD_KINDS) -> dict[str, Manifest]:
        """What carries the label of a stack of that name, by `Kind/name`."""
        found: dict[str, Manifest] = {}
        for kind in owned:
            for item in self._list(kind, f"{names.STACK_LABEL}={name}"):
                found[f"{kind.kind}/{item['metadata']['name']}"] = item
        return found

    def wishes(self, name: str) -> dict[str, Manifest]:
        """The children without what the server wrote: equal for equal specs."""
        uid = self.get(kinds.STACK, name)["metadata"]["uid"]
        return {key: essence(child, uid=uid) for key, child in self.children(name).items()}

    def events(self, name: str) -> list[Manifest]:
        """The operator's Kubernetes Events about an object, oldest first."""
        found = [e for e in self.api.list(kinds.EVENT, self.namespace) if e["regarding"].get("name") == name]
        own = [e for e in found if e.get("reportingController") == f"{names.GROUP}/operator"]
        return sorted(own, key=lambda e: str(e["eventTime"]))

    def writes(self, mark: int) -> list[str]:
        """The operator's writes in this namespace since a mark, in words; Leases and Events aside."""
        found = self.cluster.writes(since=mark, user=USER)
        return [str(entry) for entry in found if entry.namespace == self.namespace]

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(*args, "-n", self.namespace, stdin=stdin)

    def settled(self) -> None:
        """Wait until the operator is at rest."""
        settled(self.operator)

    def _list(self, kind: Kind, selector: str) -> list[Manifest]:
        """The objects; none where the cluster does not serve the kind."""
        try:
            return self.api.list(kind, self.namespace, selector=selector)
        except ApiError as error:
            if error.code == 404:
                return []
            raise


@contextmanager
def fresh_world(plane: ControlPlane, api: ApiClient, operator: OperatorProcess) -> Iterator[World]:
    """A namespace of its own; its deletion is asked for at the end and not awaited.

    Our own objects are deleted before: the namespace controller comes to them only after the pods' grace period,
    and until then the operator would look after them.
    """
    name = f"t-{uuid.uuid4().hex[:10]}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield World(cluster=plane, operator=operator, namespace=name, api=api)
    finally:
        for kind in (kinds.STACK, kinds.PROGRAM, kinds.POLICY):
            api.call("DELETE", kind.collection_path(name))
        api.call("DELETE", f"/api/v1/namespaces/{name}")
