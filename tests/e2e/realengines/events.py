"""What an engine publishes about its cache: a subscriber that counts, as a picker would receive it."""

from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import msgspec
import zmq

from tests.e2e.realengines.client import Json

__all__ = ["EventLog", "Seen"]

_QUIET_MS = 500  # no event for this long after the last answer: all have come


@dataclass(frozen=True, slots=True)
class Seen:
    """Events by kind: how many blocks they tell of, and which fields they carry."""

    counts: Counter[str] = field(default_factory=Counter)
    fields: dict[str, frozenset[str]] = field(default_factory=dict)
    topics: set[str] = field(default_factory=set)

    @property
    def kinds(self) -> set[str]:
        return set(self.counts)

    def blocks(self, kind: str) -> int:
        return self.counts[kind]

    def add(self, topic: str, batch: Json) -> None:
        """Count one batch: [time, [event, ...], rank]; events are maps with their kind as `type`."""
        self.topics.add(topic)
        for event in batch[1]:
            kind = event["type"]
            self.counts[kind] += len(event.get("block_hashes") or (None,))
            self.fields[kind] = self.fields.get(kind, frozenset()) | frozenset(event)


class EventLog:
    """Listens where an engine connects or binds."""

    def __init__(self, port: int) -> None:
        self._address = f"tcp://127.0.0.1:{port}"
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.subscribe(b"")

    def __enter__(self) -> Self:
        self._socket.bind(self._address)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def settled(self) -> Seen:
        """What has come since the last call, once nothing more comes."""
        seen = Seen()
        while self._socket.poll(_QUIET_MS):
            topic, _, payload = self._socket.recv_multipart()
            seen.add(topic.decode(), msgspec.msgpack.decode(payload))
        return seen
