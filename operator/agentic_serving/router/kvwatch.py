"""Which engines' KV events are listened to, and when they are looked at: the pods decide, as they come and go."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from agentic_serving.program.events import CacheNews
from agentic_serving.router.config import CacheEvents
from agentic_serving.router.words import Pod

__all__ = ["LOOK_S", "CacheWatch", "Looked", "Source", "sources"]

#: A session that others evict is believed in for so long. Shorter looks cost more than they tell: a turn takes seconds.
LOOK_S = 0.25


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """One publisher: a data-parallel rank of a replica. `address`: ZMQ's."""

    replica: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look found; `unreadable` messages are of those that were `read`."""

    news: Sequence[CacheNews]
    read: int
    unreadable: int


class _Sockets(Protocol):
    topic: str
    read: int
    unreadable: int

    def follow(self, sources: Iterable[Source]) -> None: ...
    async def news(self, *, loads: bool) -> list[CacheNews]: ...
    def close(self) -> None: ...


def sources(events: CacheEvents, pods: Iterable[Pod]) -> Iterator[Source]:
    """Publishers of the replicas: pods that are Ready and answer clients."""
    for pod in pods:
        host = pod.endpoint.rpartition(":")[0]
        if pod.ready and host and pod.role != "Prefill":
            for rank in range(events.ranks):
                yield Source(pod.name, f"tcp://{host}:{events.port + rank}")


class CacheWatch:
    """Subscriptions that follow the pods, and the configuration: without events there are none.

    Args:
        tell: hears of every look at which something had come.
    """

    def __init__(self, tell: Callable[[Looked], None]) -> None:
        self._tell = tell
        self._sockets: _Sockets | None = None

    async def look(self, events: CacheEvents | None, pods: Iterable[Pod]) -> None:
        """Once."""
        if self._sockets is not None and (events is None or events.topic != self._sockets.topic):
            self.close()
        if events is None:
            return
        if self._sockets is None:  # ZMQ is loaded only where it is needed
            self._sockets = import_module("agentic_serving.router.kvsockets").Sockets(events.topic)
        sockets = self._sockets
        sockets.follow(sources(events, pods))
        read, unreadable = sockets.read, sockets.unreadable
        news = await sockets.news(loads=events.loads)
        if news:
            self._tell(
                Looked(news=news, read=sockets.read - read, unreadable=sockets.unreadable - unreadable)
            )

    def close(self) -> None:
        if self._sockets is not None:
            self._sockets.close()
            self._sockets = None
