"""A collection as it is now, for as long as one likes: list, watch, and list again where that becomes necessary.

For few objects of one kind. It is what client-go's reflector does: a watch that ends goes on from its last event; a
version that expired means a new list; whatever else fails is tried again after a pause that doubles.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from random import Random

from agentic_serving.cluster.port import Cluster, Kind, Manifest, Seen
from agentic_serving.errors import ClusterError, Expired

__all__ = ["Backoff", "Collection", "follow"]

_log = logging.getLogger(__name__)

#: What is there, by (namespace, name). A new mapping each time.
Collection = dict[tuple[str, str], Manifest]
#: Failures in a row after which the version itself is doubted: an API server restored from a backup refuses to watch
#: from a version that it never had, with an error that looks like a time-out.
_LIST_AFTER = 3
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses between failed tries: `first_s`, doubling up to `most_s`, each shortened by up to a half at random.

    client-go's reflector begins at 0.8 s and ends at 30 s (tools/cache/reflector.go).
    """

    first_s: float = 0.5
    most_s: float = 15.0

    def pause_s(self, failures: int, rng: Random) -> float:
        longest_s = min(self.most_s, self.first_s * 2.0 ** max(0, min(failures, 30)))
        return longest_s * (0.5 + 0.5 * rng.random())


async def follow(
    cluster: Cluster,
    kind: Kind,
    namespace: str | None,
    *,
    label_selector: str = "",
    rng: Random,
    backoff: Backoff | None = None,
    sleep: Sleep = asyncio.sleep,
    troubled: Callable[[ClusterError], None] = lambda _: None,
) -> AsyncGenerator[Collection, None]:
    """The whole collection: once it is known, and after each change. Never ends by itself and raises no ClusterError.

    Args:
        troubled: told of each failure; what was yielded last stays the best that is known.
    """
    backoff = backoff or Backoff()
    following = _Following(cluster, kind, namespace, label_selector)
    while True:
        try:
            async with aclosing(following.once()) as found:
                async for collection in found:
                    yield collection
        except ClusterError as error:
            following.failed(error)
            if not isinstance(error, Expired):  # which says only that something was quiet for too long
                _log.warning("cannot watch %s: %s", kind, error)
                troubled(error)
        # Also after a watch that ended as it should: a server that ends each at once is not asked in a loop.
        await sleep(backoff.pause_s(following.failures - 1, rng))


class _Following:
    """What is known, between one watch and the next."""

    def __init__(self, cluster: Cluster, kind: Kind, namespace: str | None, selector: str) -> None:
        self.failures = 0  # in a row, without an event of a watch between them
        self._version = ""  # empty: list first
        self._cluster = cluster
        self._kind = kind
        self._namespace = namespace
        self._selector = selector
        self._held: Collection = {}

    async def once(self) -> AsyncGenerator[Collection, None]:
        """A list if one is needed, then one watch to its end."""
        if not self._version:
            listing = await self._cluster.list(self._kind, self._namespace, label_selector=self._selector)
            self._held = {_key(obj): obj for obj in listing.items}
            self._version = listing.resource_version
            yield dict(self._held)
        watch = self._cluster.watch(
            self._kind, self._namespace, label_selector=self._selector, resource_version=self._version
        )
        async with aclosing(watch) as events:
            async for seen in events:
                self.failures = 0
                self._version = seen.resource_version or self._version
                if self._take(seen):
                    yield dict(self._held)
        self.failures = 0

    def failed(self, error: ClusterError) -> None:
        self.failures += 1
        if isinstance(error, Expired) or self.failures % _LIST_AFTER == 0:
            self._version = ""

    def _take(self, seen: Seen) -> bool:
        if seen.happened == "BOOKMARK":
            return False
        if seen.happened == "DELETED":
            self._held.pop(_key(seen.object), None)
        else:
            self._held[_key(seen.object)] = seen.object
        return True


def _key(obj: Manifest) -> tuple[str, str]:
    return (str(obj["metadata"].get("namespace", "")), str(obj["metadata"]["name"]))
