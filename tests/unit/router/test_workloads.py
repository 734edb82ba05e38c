"""router.workloads: when pods are about to be taken away."""

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pytest

from agentic_serving.clock import ManualClock
from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.kinds import DEPLOYMENT
from agentic_serving.router.config import Config
from agentic_serving.router.workloads import SETTLE_S, Workloads, shrinking

LABELS = {"component": "engine"}
CONFIG = Config(namespace="ns", stack="chat", mode="Enforce", workload_labels=LABELS)


def manifest(replicas: int = 2, generation: int = 1, **status: int) -> dict[str, Any]:
    settled = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat", "namespace": "ns", "labels": LABELS, "generation": generation},
        "spec": {"replicas": replicas},
        "status": {**settled, **status},
    }


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        (manifest(), False),
        (manifest(generation=2), True),
        (manifest(replicas=1), True),
        (manifest(updatedReplicas=1), True),
        (manifest(replicas=3), False),
        ({"metadata": {"name": "new"}, "spec": {}}, False),
    ],
    ids=["settled", "not seen yet", "too many", "old ones", "too few", "without a status"],
)
def test_a_deployment_that_will_delete_pods_says_so(deployment: Mapping[str, Any], expected: bool) -> None:
    assert shrinking(deployment) is expected


async def test_pods_are_named_again_a_while_after_the_last_was_taken() -> None:
    cluster, clock = FakeCluster(), ManualClock()
    workloads = Workloads(cluster, CONFIG, clock, rng=Random(1), mishap=lambda _: None)
    following = asyncio.create_task(workloads.run())
    assert not workloads.unsettled
    made = await cluster.create(DEPLOYMENT, manifest(replicas=1))
    await _until(lambda: workloads.unsettled)
    await cluster.delete(DEPLOYMENT, "ns", "chat", uid=made["metadata"]["uid"])
    await _until(lambda: not workloads.shrinks)
    assert workloads.unsettled
    clock.advance(SETTLE_S)
    assert not workloads.unsettled
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0)
