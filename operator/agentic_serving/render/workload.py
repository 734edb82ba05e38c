"""Deployments: one shape for all, around a finished pod template."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentic_serving.api.rules import Rule
from agentic_serving.render.manifest import Manifest, Owner
from agentic_serving.render.templates import fill

__all__ = ["SURGE", "Workload", "deployment", "disruption_budget", "rolling_update"]

#: New pod first: for what needs no scarce device.
SURGE: Mapping[str, int] = {"maxSurge": 1, "maxUnavailable": 0}

_DEPLOYMENT = Rule(
    id="workload/deployment",
    reason="pods of one component are interchangeable; a Deployment replaces them one after the other when their template changes",
    source="https://kubernetes.io/docs/concepts/workloads/controllers/deployment/",
)
_BUDGET = Rule(
    id="workload/disruption-budget",
    reason="a node drain takes one pod at a time, and never waits for a pod that is broken anyway",
    source="https://kubernetes.io/docs/tasks/run-application/configure-pdb/",
)
_ROLLING_ENGINES = Rule(
    id="workload/rolling-engines",
    reason="several replicas are replaced in place, as accelerators for extra pods are rarely free; a single one is replaced "
    "only when its successor is ready, as there would be no service in between",
    source="docs/decisions/0003-rolling-engine-pods.md",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One Deployment.

    Attributes:
        component, role: what its pods are labelled as.
        pod: the finished pod template.
        start_s: how long a pod may take to become ready; the Deployment reports a failure only after that.
        items: options and variables of its pods, each with its rule.
    """

    name: str
    component: str
    role: str | None = None
    replicas: int
    pod: Mapping[str, Any]
    rolling_update: Mapping[str, int]
    start_s: int
    rules: tuple[Rule, ...] = ()
    items: tuple[tuple[str, Rule], ...] = ()


def rolling_update(replicas: int, *, scarce: bool) -> Mapping[str, int]:
    """How pods that hold scarce devices are replaced: a quarter at a time, in place; a single one by its successor."""
    if replicas <= 1 or not scarce:
        return SURGE
    return {"maxSurge": 0, "maxUnavailable": max(1, replicas // 4)}


def deployment(owner: Owner, workload: Workload) -> Manifest:
    body = fill(
        "deployment",
        metadata=owner.metadata(workload.name, workload.component, workload.role),
        replicas=workload.replicas,
        # Scheduling and image pulls come on top of the start itself.
        progress_deadline_s=workload.start_s + 600,
        selector=owner.selector(workload.component, workload.role),
        rolling_update=dict(workload.rolling_update),
    )
    body["spec"]["template"] = dict(workload.pod)
    rules = (_DEPLOYMENT, _ROLLING_ENGINES) if workload.component == "engine" else (_DEPLOYMENT,)
    return Manifest(body=body, rules=(*rules, *workload.rules), items=workload.items)


def disruption_budget(owner: Owner, workload: Workload) -> Manifest | None:
    """None for a single pod: a budget would only keep its node from being drained."""
    if workload.replicas < 2:
        return None
    body = fill(
        "pod_disruption_budget",
        metadata=owner.metadata(workload.name, workload.component, workload.role),
        selector=owner.selector(workload.component, workload.role),
    )
    return Manifest(body=body, rules=(_BUDGET,))
