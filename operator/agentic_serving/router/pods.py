"""The stack's engine pods as the desk sees them: what Kubernetes says of each, and what its engine says."""

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any

from agentic_serving import names
from agentic_serving.cluster import kinds
from agentic_serving.cluster.following import follow
from agentic_serving.cluster.port import Cluster, Manifest
from agentic_serving.router.config import Config
from agentic_serving.router.scrape import Sample, Scraper
from agentic_serving.router.words import Pod

__all__ = ["Pods", "pod_of"]

_ROLES = {"aggregated": "Aggregated", "prefill": "Prefill", "decode": "Decode"}


def pod_of(obj: Manifest, port: int, sample: Callable[[str], Sample]) -> Pod | None:
    """None: it has no address or no role of ours yet."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    role = _ROLES.get((metadata.get("labels") or {}).get(names.ROLE_LABEL, ""))
    address = status.get("podIP", "")
    if role is None or not address:
        return None
    endpoint = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    said = sample(endpoint)
    return Pod(
        name=metadata["name"],
        endpoint=endpoint,
        role=role,  # type: ignore[arg-type] # one of the three
        ready=_is(status, "Ready"),
        draining="deletionTimestamp" in metadata or _is(status, "DisruptionTarget"),
        capacity_tokens=said.capacity_tokens,
        running=said.running,
        waiting=said.waiting,
    )


def _is(status: Mapping[str, Any], condition: str) -> bool:
    """`DisruptionTarget`: an eviction, a preemption or a failing node is about to take the pod (Kubernetes 1.31)."""
    found = status.get("conditions") or ()
    return any(one.get("type") == condition and one.get("status") == "True" for one in found)


class Pods:
    """Follows them.

    Args:
        changed: told of all pods whenever something of them is new.
        mishap: told `pods` or `scrape` when one of them fails once; what was known stays known.

    Attributes:
        listed: the cluster was asked once, so that what is not known is not there.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: Config,
        changed: Callable[[list[Pod]], None],
        *,
        rng: Random,
        mishap: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.listed = False
        self._cluster = cluster
        self._config = config
        self._tell = changed
        self._rng = rng
        self._mishap = mishap
        self._objects: list[Manifest] = []
        self.scraper = Scraper(
            config.engine, self._endpoints, self._changed, rng=rng, failed=lambda: mishap("scrape")
        )

    @property
    def pods(self) -> list[Pod]:
        found = (pod_of(obj, self._config.engine_port, self.scraper.sample) for obj in self._objects)
        return sorted((pod for pod in found if pod is not None), key=lambda pod: pod.name)

    async def run(self) -> None:
        """Until cancelled."""
        selector = ",".join(f"{key}={value}" for key, value in sorted(self._config.pod_labels.items()))
        found = follow(
            self._cluster,
            kinds.POD,
            self._config.namespace,
            label_selector=selector,
            rng=self._rng,
            troubled=lambda _: self._mishap("pods"),
        )
        async for collection in found:
            self._objects = list(collection.values())
            self.listed = True
            self._changed()

    def _endpoints(self) -> Iterable[str]:
        return [pod.endpoint for pod in self.pods if pod.ready]

    def _changed(self) -> None:
        self._tell(self.pods)
