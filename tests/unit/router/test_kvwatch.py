"""router.kvwatch and router.kvsockets: who is listened to, and what comes over real sockets."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import zmq

from agentic_serving.program.events import CacheNews
from agentic_serving.router.config import CacheEvents
from agentic_serving.router.kvwatch import CacheWatch, Looked, sources
from agentic_serving.router.words import Decided, Pod
from tests.unit.router.desking import CAPACITY, Driver, chat, text_of, turn

TOPIC = b"kv@127.0.0.1:8000@m"


def pod(name: str = "r0", **fields: Any) -> Pod:
    return Pod(**{"name": name, "endpoint": "10.0.0.1:8000", "role": "Aggregated", "ready": True, **fields})


@pytest.mark.parametrize(
    ("events", "given", "expected"),
    [
        (CacheEvents(), pod(), ["tcp://10.0.0.1:5557"]),
        (CacheEvents(port=7000, ranks=2), pod(), ["tcp://10.0.0.1:7000", "tcp://10.0.0.1:7001"]),
        (CacheEvents(), pod(endpoint="[fd00::1]:8000"), ["tcp://[fd00::1]:5557"]),
        (CacheEvents(), pod(role="Decode"), ["tcp://10.0.0.1:5557"]),
        (CacheEvents(), pod(role="Prefill"), []),
        (CacheEvents(), pod(ready=False), []),
        (CacheEvents(), pod(endpoint=""), []),
    ],
    ids=["one", "ranks", "IPv6", "decode", "prefill", "not ready", "no address"],
)
def test_who_is_listened_to(events: CacheEvents, given: Pod, expected: list[str]) -> None:
    assert [source.address for source in sources(events, [given])] == expected


class Publisher:
    """An engine's socket; `XPUB` hears of subscriptions, so that nothing is sent before they are there."""

    def __init__(self, port: int = 0) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.RCVTIMEO, 20_000)
        if port:
            self._socket.bind(f"tcp://127.0.0.1:{port}")
        self.port = port or self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.number = 0

    async def subscribed(self) -> bytes:
        return await asyncio.to_thread(self._socket.recv)

    def send(self, *events: object, times: int = 1) -> None:
        for _ in range(times):
            payload = msgspec.msgpack.encode([1.0, events, 0])
            self._socket.send_multipart([TOPIC, self.number.to_bytes(8, "big"), payload])
            self.number += 1

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()


STORED = {"type": "BlockStored", "block_hashes": [1, 2], "block_size": 16, "token_ids": [], "medium": "GPU"}


class Watching:
    """A watch of one engine, and all that it heard."""

    def __init__(self, port: int) -> None:
        self.heard: list[Looked] = []
        self.watch = CacheWatch(self.heard.append)
        self.events = CacheEvents(port=port)
        self.pods = [pod(endpoint="127.0.0.1:8000")]

    @property
    def news(self) -> list[CacheNews]:
        return [one for looked in self.heard for one in looked.news]

    async def look(self) -> None:
        await self.watch.look(self.events, self.pods)

    async def until(self, done: Callable[[], bool]) -> None:
        """Look until then, as the process does."""
        async with asyncio.timeout(20):
            while not done():
                await self.look()
                await asyncio.sleep(0.01)


@pytest.fixture
def engine() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.close()


@pytest.fixture
def watching(engine: Publisher) -> Iterator[Watching]:
    made = Watching(engine.port)
    yield made
    made.watch.close()


async def test_news_come_together_and_a_flood_is_read_in_parts(engine: Publisher, watching: Watching) -> None:
    await watching.look()
    assert await engine.subscribed() == b"\x01kv@"
    engine.send(STORED, times=3000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    await watching.until(
        lambda: sum(one.stored_tokens for one in watching.news) == 3000 * 32 or gaps(watching) > 1
    )
    beside.cancel()
    read = sum(one.read for one in watching.heard)
    assert max(one.read for one in watching.heard) <= 1000
    assert turns > read / 4, "others had their turn after every few messages"
    assert sum(one.stored_tokens for one in watching.news) == read * 32


def gaps(watching: Watching) -> int:
    return sum(one.gap for one in watching.news)


async def test_an_engine_that_starts_again_has_an_empty_cache(engine: Publisher, watching: Watching) -> None:
    await watching.look()
    await engine.subscribed()
    engine.send(STORED, times=5)
    await watching.until(lambda: bool(watching.news))
    engine.close()
    again = Publisher(engine.port)
    try:
        subscribed = asyncio.create_task(again.subscribed())
        await watching.until(subscribed.done)
        again.send(STORED)
        await watching.until(lambda: watching.news[-1].cleared)
    finally:
        again.close()
    assert [one.cleared for one in watching.news].count(True) == 1


async def test_pods_that_go_and_events_that_are_turned_off_end_subscriptions(
    engine: Publisher, watching: Watching
) -> None:
    for end in ("pods", "events"):
        await watching.look()
        assert await engine.subscribed() == b"\x01kv@"
        if end == "pods":
            watching.pods = []
            await watching.look()
            watching.pods = [pod(endpoint="127.0.0.1:8000")]
        else:
            await watching.watch.look(None, watching.pods)
        assert await engine.subscribed() == b"\x00kv@"


async def test_an_engine_that_is_not_there_costs_nothing() -> None:
    watching = Watching(1)
    watching.pods = [pod(endpoint="no address:8000"), pod("r1", endpoint="127.0.0.1:8000")]
    await watching.look()
    await watching.look()
    watching.watch.close()
    assert watching.heard == []


def test_the_desk_believes_in_less_where_others_came() -> None:
    """A session's next turn: without news its prompt is thought to be cached, with them computed again."""
    uncached = []
    for others in (0, CAPACITY):
        driver = Driver(n_pods=1)
        driver.take(driver.desk.caches([CacheNews(replica="r0", block_tokens=16, gap=True)], 0.0))
        driver.arrive(turn("a.0", "a", 400))
        driver.end("a.0", 400)
        driver.take(driver.desk.caches([CacheNews(replica="r0", stored_tokens=400 + others)], 1.0))
        again = [("user", text_of(400, "a")), ("assistant", "done"), ("user", "more")]
        driver.arrive(chat("a.1", again, session="a"))
        (decided,) = driver.ear.of(Decided, "a.1")
        uncached.append(decided.uncached_tokens)
    assert uncached[0] < 50
    assert uncached[1] > 380
