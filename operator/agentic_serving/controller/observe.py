"""What the Deployments of a stack say about it: roles and conditions. Pure.

Never ahead of reality: a Deployment counts as complete only when its controller has seen the newest generation
and every wanted replica runs the newest template and is ready. Source of the rules: `kubectl rollout status`
(k8s.io/kubectl pkg/polymorphichelpers/rollout_status.go).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agentic_serving.api.conditions import Reason
from agentic_serving.api.stack import RoleStatus
from agentic_serving.cluster.port import Manifest
from agentic_serving.render.plan import PlannedRole

__all__ = ["Aspect", "Observation", "PodTrouble", "Rollout", "observe", "rollout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTrouble:
    """Why the pods of a Deployment are not ready."""

    reason: Reason  # PodsFailing or Unschedulable
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How far a Deployment is."""

    deployment: str
    wanted: int
    ready: int
    updated: int
    complete: bool
    trouble: PodTrouble | None = None

    def __str__(self) -> str:
        return f"{self.deployment}: {self.ready} of {self.wanted} ready, {self.updated} up to date"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """A condition before it has a time and a generation."""

    holds: bool
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What is the case."""

    roles: tuple[RoleStatus, ...]
    replicas: str  # of engines, as `2/3`
    available: Aspect
    router_ready: Aspect
    complete: Aspect  # every Deployment is as asked

    @property
    def ready(self) -> Aspect:
        """The first of the three that does not hold, else the last."""
        return next((f for f in (self.available, self.router_ready) if not f.holds), self.complete)


def rollout(name: str, wanted: int, live: Manifest | None, trouble: PodTrouble | None = None) -> Rollout:
    """How far a Deployment is; `live` is None while it does not exist."""
    if live is None:
        return Rollout(deployment=name, wanted=wanted, ready=0, updated=0, complete=False)
    status: dict[str, Any] = live.get("status") or {}
    current = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    total = status.get("replicas", 0)
    # Pods of an older template do not count once the controller has seen the newer one; before that, it does
    # not know which are which.
    return Rollout(
        deployment=name,
        wanted=wanted,
        ready=ready,
        updated=updated if current else 0,
        complete=current and ready == updated == total == wanted,
        trouble=trouble or _creation_trouble(status),
    )


def _creation_trouble(status: Mapping[str, Any]) -> PodTrouble | None:
    """What the Deployment itself says about pods that could not be created (quota, admission)."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return PodTrouble(
                reason=Reason.PODS_FAILING, message=f"pods cannot be created: {condition.get('message', '')}"
            )
    return None


def observe(
    roles: Iterable[PlannedRole],
    supporting: Iterable[str],
    live: Mapping[str, Manifest],
    trouble: Mapping[str, PodTrouble],
) -> Observation:
    """What the Deployments say.

    Args:
        roles: engine pools and the router.
        supporting: further Deployments that must be complete.
        live: Deployments by name.
        trouble: what is known about their pods, by name of the Deployment.
    """
    named = [
        (r.name, rollout(r.deployment, r.replicas, live.get(r.deployment), trouble.get(r.deployment)))
        for r in roles
    ]
    engines = [r for name, r in named if name != "Router"]
    routers = [r for name, r in named if name == "Router"]
    others = [rollout(n, _wanted(live.get(n)), live.get(n), trouble.get(n)) for n in supporting]
    return Observation(
        roles=tuple(
            RoleStatus(name=name, replicas=r.wanted, ready=r.ready, updated=r.updated) for name, r in named
        ),
        replicas=f"{sum(r.ready for r in engines)}/{sum(r.wanted for r in engines)}",
        available=_available(engines),
        router_ready=_router_ready(routers),
        complete=_complete([*engines, *routers, *others], engines),
    )


def _wanted(live: Manifest | None) -> int:
    replicas = ((live or {}).get("spec") or {}).get("replicas", 1)
    return int(replicas)


def _available(engines: list[Rollout]) -> Aspect:
    down = [r for r in engines if r.wanted > 0 and r.ready == 0]
    if down:
        return _unready(down, Reason.REPLICAS_UNAVAILABLE, "no ready engine pod")
    if all(r.wanted == 0 for r in engines):
        return Aspect(
            holds=True, reason=Reason.SCALED_TO_ZERO, message="the spec asks for no engine replicas"
        )
    return Aspect(holds=True, reason=Reason.AVAILABLE, message="each engine role has a ready replica")


def _router_ready(routers: list[Rollout]) -> Aspect:
    down = [r for r in routers if r.ready == 0]
    if down:
        return _unready(down, Reason.ROUTER_UNAVAILABLE, "no ready router pod")
    return Aspect(holds=True, reason=Reason.AVAILABLE, message="the router answers")


def _complete(every: list[Rollout], engines: list[Rollout]) -> Aspect:
    behind = [r for r in every if not r.complete]
    if behind:
        return _unready(behind, Reason.PROGRESSING, "waiting for Deployments")
    if all(r.wanted == 0 for r in engines):
        return Aspect(
            holds=True,
            reason=Reason.SCALED_TO_ZERO,
            message="the spec asks for no engine replicas, and none runs",
        )
    return Aspect(holds=True, reason=Reason.READY, message="all replicas are ready and up to date")


def _unready(down: list[Rollout], reason: Reason, what: str) -> Aspect:
    """The pods' own words where there are any: they are what somebody can act on."""
    troubled = next((r for r in down if r.trouble), None)
    counts = "; ".join(str(r) for r in down)
    if troubled is None or troubled.trouble is None:
        return Aspect(holds=False, reason=reason, message=f"{what}: {counts}")
    message = f"{what}: {counts}; {troubled.trouble.message}"
    return Aspect(holds=False, reason=troubled.trouble.reason, message=message)
