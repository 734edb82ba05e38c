"""KV events as engines write them, made into counts. Pure: frames in, news out.

Three frames: topic, number (8 bytes, big endian, from 0 at the engine's start), and a msgpack array [time, events, rank]; an
event is a map with its `type`. Source: vLLM 0.32 `vllm/distributed/kv_events.py`; SGLang 0.5 writes the same.
What an engine says is not trusted: nothing raises, and what cannot be read counts as missed.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from agentic_serving.program.events import CacheNews

__all__ = ["Reader"]

#: No block is larger, so that a wrong number cannot make the counts useless.
_MOST_BLOCK_TOKENS = 1 << 20
#: The tier that the ledger counts. None: an engine with one tier need not name it.
_DEVICE = (None, "GPU")
#: Engines number groups of layers that cache in the same way. Most models have one.
_FIRST_GROUP = (None, 0)


class _Event(msgspec.Struct, gc=False):
    """Only what is counted is decoded: the tokens themselves, by far the largest part, are passed over."""

    block_hashes: list[Any]
    medium: str | None = None
    group_idx: int | None = None


class _Stored(_Event, tag="BlockStored", kw_only=True):
    block_size: int


class _Removed(_Event, tag="BlockRemoved"):
    pass


class _Cleared(msgspec.Struct, tag="AllBlocksCleared"):
    pass


_Known = _Stored | _Removed | _Cleared


class _Batch(msgspec.Struct, array_like=True):
    time: float
    events: list[_Known]


class _AnyBatch(msgspec.Struct, array_like=True):
    time: float
    events: list[dict[str, Any]]


_BATCH = msgspec.msgpack.Decoder(_Batch)
_ANY_BATCH = msgspec.msgpack.Decoder(_AnyBatch)


class Reader:
    """What one publisher, that is one data-parallel rank, says.

    Attributes:
        unreadable: batches that were none.
    """

    def __init__(self) -> None:
        self.unreadable = 0
        self._next: int | None = None  # the number that continues what was read
        self._block_tokens = 0
        self._several = False
        self._stored = self._removed = 0
        self._gap = self._cleared = self._news = False

    def read(self, frames: Sequence[bytes]) -> None:
        """One message."""
        self._news = True
        if len(frames) != 3 or len(frames[1]) != 8:
            self._lost()
            return
        self._follow(int.from_bytes(frames[1], "big"))
        try:
            events = _events(frames[2])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self._lost()
            return
        for event in events:
            self._count(event)

    def take(self, replica: str, *, loads: bool) -> CacheNews | None:
        """What came since the last time; None: nothing did."""
        if not self._news:
            return None
        news = CacheNews(
            replica=replica,
            stored_tokens=self._stored,
            removed_tokens=self._removed,
            block_tokens=self._block_tokens,
            cleared=self._cleared,
            gap=self._gap,
            loads=loads,
        )
        self._stored = self._removed = 0
        self._gap = self._cleared = self._news = False
        return news

    def _follow(self, number: int) -> None:
        """Numbers that go back are of another process: what the one before had is gone with it."""
        if self._next is not None and number < self._next:
            self._clear()
            self._next = 0
        self._gap |= number != self._next
        self._next = number + 1

    def _lost(self) -> None:
        self.unreadable += 1
        self._gap = True

    def _clear(self) -> None:
        self._cleared = True
        self._stored = self._removed = 0

    def _count(self, event: _Known) -> None:
        if isinstance(event, _Cleared):
            self._clear()
            return
        if event.group_idx not in _FIRST_GROUP and not self._several:
            # A window's blocks come and go while the tokens before them can still be hit: such counts are no tokens held.
            self._several, self._gap, self._stored, self._removed = True, True, 0, 0
        if self._several or event.medium not in _DEVICE:
            return
        n_blocks = len(event.block_hashes)
        if isinstance(event, _Removed):
            self._removed += n_blocks * self._block_tokens
        elif 0 < event.block_size <= _MOST_BLOCK_TOKENS:
            self._block_tokens = max(self._block_tokens, event.block_size)
            self._stored += n_blocks * event.block_size


def _events(payload: bytes) -> Sequence[_Known]:
    try:
        return _BATCH.decode(payload).events
    except msgspec.ValidationError:  # perhaps of a kind that newer engines tell of as well
        found = _ANY_BATCH.decode(payload).events
        kinds = ("BlockStored", "BlockRemoved", "AllBlocksCleared")
        known = [event for event in found if event.get("type") in kinds]
        return msgspec.convert(known, list[_Known])
