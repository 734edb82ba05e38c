"""cluster.following: the collection as it is, whatever happens to the watch underneath."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.following import Backoff, Collection, follow
from agentic_serving.cluster.kinds import POD
from agentic_serving.cluster.port import Manifest
from agentic_serving.errors import ClusterError, Expired, Unavailable


def pod(name: str, **labels: str) -> Manifest:
    metadata = {"name": name, "namespace": "ns", "labels": {"app": "engine", **labels}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}


class Stage:
    """A cluster with a follower on it, whose pauses end at once and are written down."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.pauses: list[float] = []
        self.troubles: list[ClusterError] = []
        self.following: AsyncGenerator[Collection, None]

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    @asynccontextmanager
    async def follow(self) -> AsyncIterator["Stage"]:
        self.following = follow(
            self.cluster,
            POD,
            "ns",
            label_selector="app=engine",
            rng=Random(1),
            sleep=self._pause,
            troubled=self.troubles.append,
        )
        yield self
        await self.following.aclose()

    async def next(self) -> list[str]:
        """Names of what is there after the next change."""
        async with asyncio.timeout(5):
            return sorted(name for _, name in await anext(self.following))

    async def until(self, names: list[str]) -> None:
        while await self.next() != names:
            pass

    async def watched(self) -> "asyncio.Task[list[str]]":
        """Begin to wait for the next change; returns once the watch is open."""
        waiting = asyncio.create_task(self.next())
        while not self.cluster.watches:  # noqa: ASYNC110 - the fake has no event for it; each turn of the loop brings it nearer
            await asyncio.sleep(0)
        return waiting


async def test_each_change_brings_the_whole_collection() -> None:
    async with Stage().follow() as stage:
        stage.cluster.seed(POD, pod("a"))
        stage.cluster.seed(POD, {**pod("x"), "metadata": {"name": "x", "namespace": "ns", "labels": {}}})
        assert await stage.next() == ["a"]
        stage.cluster.seed(POD, pod("b"))
        assert await stage.next() == ["a", "b"]
        stage.cluster.drop(POD, "ns", "a")
        assert await stage.next() == ["b"]
        assert [call.verb for call in stage.cluster.calls] == ["list", "watch"]


async def test_an_empty_collection_is_told_too() -> None:
    async with Stage().follow() as stage:
        assert await stage.next() == []


async def test_what_happened_between_two_watches_is_not_lost() -> None:
    async with Stage().follow() as stage:
        assert await stage.next() == []
        waiting = await stage.watched()
        stage.cluster.hang_up()
        stage.cluster.seed(POD, pod("a"))
        assert await waiting == ["a"]
        assert [call.verb for call in stage.cluster.calls] == ["list", "watch", "watch"]


async def test_an_expired_version_is_listed_again_and_is_no_trouble() -> None:
    async with Stage().follow() as stage:
        assert await stage.next() == []
        waiting = await stage.watched()
        stage.cluster.fail_next(Expired("too old", code=410), verb="watch")
        stage.cluster.hang_up()
        await asyncio.sleep(0)
        stage.cluster.seed(POD, pod("a"))
        stage.cluster.forget_history()
        assert await waiting == ["a"]
        assert [call.verb for call in stage.cluster.calls][-1] == "list"
        assert stage.troubles == []


async def test_a_server_that_is_away_is_asked_less_and_less_often_within_bounds() -> None:
    async with Stage().follow() as stage:
        stage.cluster.seed(POD, pod("a"))
        stage.cluster.fail_next(Unavailable("away"), verb="list", times=12)
        assert await stage.next() == ["a"]
        assert len(stage.troubles) == len(stage.pauses) == 12
        assert stage.pauses[0] <= 0.5
        assert max(stage.pauses) <= 15.0
        assert min(stage.pauses[6:]) > 5.0


async def test_a_version_that_the_server_never_had_is_given_up() -> None:
    # etcd restored from a backup: every watch from our version is answered "too large resource version".
    async with Stage().follow() as stage:
        assert await stage.next() == []
        stage.cluster.fail_next(Unavailable("Too large resource version", code=504), verb="watch", times=3)
        assert await stage.next() == []
        waiting = await stage.watched()
        assert [call.verb for call in stage.cluster.calls] == [
            "list",
            "watch",
            "watch",
            "watch",
            "list",
            "watch",
        ]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("failures", [-1, 0, 1, 5, 1000])
def test_pauses_are_bounded(failures: int) -> None:
    for seed in range(20):
        assert 0.2 < Backoff().pause_s(failures, Random(seed)) <= 15.0
