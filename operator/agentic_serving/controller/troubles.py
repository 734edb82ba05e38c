"""When to ask why pods are not ready, and what was answered: bounded reads for stacks that do not come up."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentic_serving.clock import Clock
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Cluster, Manifest
from agentic_serving.controller.keys import Key
from agentic_serving.controller.observe import PodTrouble, rollout
from agentic_serving.controller.pods import selector_of, trouble_of
from agentic_serving.errors import Forbidden

__all__ = ["Troubles"]


@dataclass(slots=True)
class _Watch:
    since_s: float  # when a Deployment was first seen without all its pods
    asked_s: float | None = None
    known: dict[str, PodTrouble] = field(default_factory=dict)


class Troubles:
    """What is known about the pods of stacks that are not complete.

    Args:
        after_s: how long a stack may be incomplete before its pods are read, and how long an answer is used.
    """

    def __init__(self, cluster: Cluster, clock: Clock, *, after_s: float) -> None:
        self._cluster = cluster
        self._clock = clock
        self._after_s = after_s
        self._watches: dict[Key, _Watch] = {}

    async def of(
        self, key: Key, deployments: Mapping[str, Manifest]
    ) -> tuple[Mapping[str, PodTrouble], float | None]:
        """What is wrong with the pods of each Deployment, and in how many seconds to look again."""
        waiting = {name: d for name, d in deployments.items() if _waits(name, d)}
        if not waiting:
            self.forget(key)
            return {}, None
        now_s = self._clock.monotonic_s()
        watch = self._watches.setdefault(key, _Watch(since_s=now_s))
        due_s = self._after_s + (watch.since_s if watch.asked_s is None else watch.asked_s)
        if now_s < due_s:
            return watch.known, due_s - now_s
        watch.asked_s = now_s
        watch.known = await self._ask(key, waiting)
        return watch.known, self._after_s

    def forget(self, key: Key) -> None:
        self._watches.pop(key, None)

    async def _ask(self, key: Key, waiting: Mapping[str, Manifest]) -> dict[str, PodTrouble]:
        try:
            pods = await self._cluster.list(kinds.POD, key.namespace, label_selector=selector_of(key.name))
        except Forbidden:
            return {}  # the counts are still told; reading pods is a help, not a need
        found = {name: trouble_of(deployment, pods.items) for name, deployment in waiting.items()}
        return {name: trouble for name, trouble in found.items() if trouble is not None}


def _waits(name: str, deployment: Manifest) -> bool:
    """The Deployment has made its pods and they are not all ready."""
    replicas = deployment["spec"].get("replicas", 1)
    return not rollout(name, replicas, deployment).complete
