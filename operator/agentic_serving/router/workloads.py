"""Whether engine pods are about to be taken away: a hint of one pod is safe only where it is there when the picker chooses.

A Deployment says so before its pods are deleted, whoever asked for it: the operator, an autoscaler, a person. What takes a
pod without it (an eviction, `kubectl delete pod`) is known only from the pod itself (`pods`).
"""

from collections.abc import Callable
from random import Random

from agentic_serving.clock import Clock
from agentic_serving.cluster import kinds
from agentic_serving.cluster.following import follow
from agentic_serving.cluster.port import Cluster, Manifest
from agentic_serving.router.config import Config

__all__ = ["SETTLE_S", "Workloads", "shrinking"]

#: How much later than us the picker may hear of a pod, or we than the picker: both watch the same API server.
SETTLE_S = 1.0


def shrinking(deployment: Manifest) -> bool:
    """Some of its pods will be deleted: it has too many or old ones, or its controller has not seen what is wanted now."""
    status = deployment.get("status") or {}
    wanted: int = deployment.get("spec", {}).get("replicas", 1)
    pods: int = status.get("replicas", 0)  # without those that are being deleted
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return True
    updated: int = status.get("updatedReplicas", 0)
    return pods > wanted or updated < pods


class Workloads:
    """Follows the stack's Deployments of engines.

    Args:
        mishap: told `workloads` when the cluster cannot be watched; what was known stays known.

    Attributes:
        shrinks: pods are being taken away, as far as was heard.
    """

    def __init__(
        self, cluster: Cluster, config: Config, clock: Clock, *, rng: Random, mishap: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._config = config
        self._clock = clock
        self._rng = rng
        self._mishap = mishap
        self.shrinks = False
        self._until_s = 0.0

    @property
    def unsettled(self) -> bool:
        """Pods are being taken away, or were until `SETTLE_S` ago."""
        return self.shrinks or self._clock.monotonic_s() < self._until_s

    async def run(self) -> None:
        """Until cancelled."""
        found = follow(
            self._cluster,
            kinds.DEPLOYMENT,
            self._config.namespace,
            label_selector=",".join(f"{k}={v}" for k, v in sorted(self._config.workload_labels.items())),
            rng=self._rng,
            troubled=lambda _: self._mishap("workloads"),
        )
        async for collection in found:
            before, self.shrinks = self.shrinks, any(map(shrinking, collection.values()))
            if before and not self.shrinks:
                self._until_s = self._clock.monotonic_s() + SETTLE_S
