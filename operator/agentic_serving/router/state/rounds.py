"""One round with the store: what has changed goes out, what other stacks did comes in, in one pipeline."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from agentic_serving.clock import Clock
from agentic_serving.program.keeping import keep
from agentic_serving.program.keeping.kept import Kept, World
from agentic_serving.router.state import records
from agentic_serving.router.state.journal import Journal
from agentic_serving.router.state.keys import Keys
from agentic_serving.router.state.link import Command
from agentic_serving.router.state.shared import Part, SharedService

__all__ = ["Batch", "Rounds"]

#: Of each kind in a round: at most about 20 ms of work in slices, and 200 KB.
_MOST = 250
#: So many records are made before others have a turn: about 2 ms.
_SLICE = 24
#: What is learned of all sessions changes slowly.
_LEARNED_EVERY_S = 5.0
#: A key's time to live is set again after this long, of `ttl_s`, which is an hour at least.
_TTL_EVERY_S = 60.0
#: Batches of all stacks that are kept for those that come late or were away: at least 100 s of a busy stack.
_STREAM_BATCHES = 1000
#: Read in a round: at most 2,500 parts, about 5 ms.
_READ_BATCHES = 10


@dataclass(slots=True, kw_only=True)
class Batch:
    """What went out; to be given back if it did not."""

    names: list[str]
    parts: list[Part]
    ends: list[str]
    commands: list[Command] = field(default_factory=list)
    expires: dict[int, float] = field(default_factory=dict)  # buckets whose time to live it sets
    learned: bool = False

    def __len__(self) -> int:
        return len(self.names) + len(self.parts) + len(self.ends)

    @property
    def whole(self) -> bool:
        """It has all that had changed."""
        return len(self.names) < _MOST


class Rounds:
    """
    Args:
        ttl_s: how long keys outlive their last use; longer than sessions may be idle.

    Attributes:
        more: there is more to be read of other stacks than a round takes.
    """

    def __init__(
        self, world: World, journal: Journal, service: SharedService, keys: Keys, clock: Clock, ttl_s: float
    ) -> None:
        self.more = False
        self._caught_up = False
        self._world = world
        self._journal = journal
        self._service = service
        self._keys = keys
        self._clock = clock
        self._ttl_ms = int(1000 * ttl_s)
        self._expires: dict[int, float] = {}
        self._learned_s = self._clock.monotonic_s()
        self._last = b"0"

    def offset_s(self) -> float:
        """Wall clock less the host's."""
        return self._clock.now().timestamp() - self._clock.monotonic_s()

    async def batch(self) -> Batch:
        """What has changed, as far as it fits into one round; others have their turn while it is made."""
        batch = Batch(
            names=self._journal.take(_MOST),
            parts=self._service.changes(_MOST),
            ends=self._journal.take_ends(_MOST),
        )
        keys = self._keys
        batch.commands = [("PEXPIRE", keys.meta, self._ttl_ms), ("HGET", keys.meta, "epoch")]
        await self._sessions(batch)
        now_s = self._clock.monotonic_s()
        if now_s >= self._learned_s + _LEARNED_EVERY_S:
            text = records.learned_text(keep.learned(self._world, now_s))
            batch.commands.append(("SET", keys.learned, text, "PX", self._ttl_ms))
            batch.learned = True
        if batch.parts or batch.ends:
            batch.commands.append(
                ("XADD", keys.stream, "MAXLEN", "~", _STREAM_BATCHES, "*", "d", self._told(batch))
            )
            batch.commands.append(("PEXPIRE", keys.stream, self._ttl_ms))
        batch.commands.append(("XREAD", "COUNT", _READ_BATCHES, "STREAMS", keys.stream, self._last))
        return batch

    def written(self, batch: Batch) -> None:
        now_s = self._clock.monotonic_s()
        self._expires.update(batch.expires)
        if batch.learned:
            self._learned_s = now_s

    def failed(self, batch: Batch) -> None:
        self._journal.give_back(batch.names, batch.ends)
        self._service.give_back(batch.parts)

    def finish(self) -> None:
        """The last rounds: with what was learned."""
        self._learned_s = -_LEARNED_EVERY_S

    def lost(self) -> None:
        """The store is empty: all is to be written again."""
        self._journal.mark(keep.sessions(self._world))
        self._expires.clear()
        self._learned_s = -_LEARNED_EVERY_S
        self._last = b"0"

    def heard(self, reply: Any) -> list[str]:  # noqa: ANN401 - the store's own form
        """What other stacks did; runs that ended there. Ends from before this process came are history."""
        entries = reply[0][1] if reply else []
        ends: list[str] = []
        for entry_id, fields in entries:
            self._last = entry_id
            stack, parts, ended = _read(fields, but=self._keys.stack)
            for part in parts:
                self._service.heard(stack, part)
            ends.extend(ended if self._caught_up else ())
        self.more = len(entries) == _READ_BATCHES
        self._caught_up = self._caught_up or not self.more
        return ends

    async def _sessions(self, batch: Batch) -> None:
        offset_s, now_s = self.offset_s(), self._clock.monotonic_s()
        written: dict[int, list[str | bytes]] = {}
        gone: dict[int, list[str]] = {}
        for i, name in enumerate(batch.names, 1):
            bucket = self._keys.bucket_of(name)
            kept = keep.session(self._world, name)
            if kept is None:
                gone.setdefault(bucket, []).append(name)
            else:
                record = records.encode(self._shared(kept), offset_s)
                written.setdefault(bucket, []).extend((name, record))
            if i % _SLICE == 0:
                await asyncio.sleep(0)
        batch.commands += [("HSET", self._keys.bucket(bucket), *pairs) for bucket, pairs in written.items()]
        batch.commands += [("HDEL", self._keys.bucket(bucket), *names) for bucket, names in gone.items()]
        for bucket in written:
            if now_s >= self._expires.get(bucket, -_TTL_EVERY_S) + _TTL_EVERY_S:
                batch.commands.append(("PEXPIRE", self._keys.bucket(bucket), self._ttl_ms))
                batch.expires[bucket] = now_s

    def _shared(self, kept: Kept) -> Kept:
        """With what its run attained elsewhere."""
        if kept.task is None:
            return kept
        service, run = self._service, kept.name
        task = replace(kept.task, others=service.others(run), began=service.since_s(run) > 0)
        return replace(kept, task=task)

    def _told(self, batch: Batch) -> bytes:
        parts = [[part.run, round(1000 * part.since_s), part.tokens] for part in batch.parts]
        return orjson.dumps([self._keys.stack, parts, batch.ends])


def _read(fields: Any, *, but: str) -> tuple[str, Sequence[Part], Sequence[str]]:  # noqa: ANN401 - the store's own form
    """An entry of the stream, unless it is that stack's; of one that is not as it should be nothing is believed."""
    try:
        stack, parts, ends = orjson.loads(dict(fields)[b"d"])
        if stack == but:
            return but, (), ()
        found = [Part(str(run), float(since) / 1000, max(0, int(tokens))) for run, since, tokens in parts]
        return str(stack), found, [str(run) for run in ends]
    except (KeyError, ValueError, TypeError, OverflowError):
        return "", (), ()
