"""Pods as the scheduler's replicas: which take new turns, and what changed of them. Pure.

A replica is a pod that a client's request goes to: aggregated or decode. One that is not Ready, is being drained, or whose
cache nobody knows takes no new turn; those that it has end as they end.
"""

from collections.abc import Iterator, Sequence

from agentic_serving.program import events as ev
from agentic_serving.router.words import Pod

__all__ = ["Places"]


class Places:
    """The pods that were told last.

    Attributes:
        pods: all of them, of every role.
    """

    def __init__(self) -> None:
        self.pods: tuple[Pod, ...] = ()
        self._names: dict[str, str] = {}  # by endpoint
        self._told: dict[str, tuple[str, int, int]] = {}

    def tell(self, pods: Sequence[Pod], capacity_tokens: int | None, max_seqs: int) -> Iterator[ev.Event]:
        """What the scheduler must hear of.

        Args:
            capacity_tokens, max_seqs: of pods that do not say.
        """
        self.pods = tuple(pods)
        hosts = [pod for pod in pods if pod.role != "Prefill"]
        self._names = {pod.endpoint: pod.name for pod in hosts}
        now = dict(_places(hosts, capacity_tokens, max_seqs))
        before, self._told = self._told, now
        for name, (endpoint, _, _) in before.items():
            if (
                name not in now or now[name][0] != endpoint
            ):  # at another address it is another one: nothing is cached
                yield ev.ReplicaGone(name)
        for name, (endpoint, capacity, seqs) in now.items():
            if before.get(name) != (endpoint, capacity, seqs):
                yield ev.ReplicaSeen(name=name, capacity_tokens=capacity, max_seqs=seqs)

    def name(self, endpoint: str) -> str:
        """The pod at an address; empty: nobody knows it."""
        return self._names.get(endpoint, "")

    def lives(self, name: str) -> bool:
        """Whether a pod is there and Ready; the one without a name is not known to be otherwise."""
        return not name or any(pod.name == name and pod.ready for pod in self.pods)

    def __contains__(self, name: object) -> bool:
        return name in self._told


def _places(
    pods: Sequence[Pod], capacity_tokens: int | None, max_seqs: int
) -> Iterator[tuple[str, tuple[str, int, int]]]:
    for pod in pods:
        capacity = pod.capacity_tokens or capacity_tokens
        if pod.ready and not pod.draining and pod.endpoint and capacity:
            yield pod.name, (pod.endpoint, capacity, pod.max_seqs or max_seqs)
