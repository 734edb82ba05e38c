"""Watches of the cluster in memory: what happened since a version, and what happens from now on."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from agentic_serving.cluster.fake_objects import Key, Objects, copied
from agentic_serving.cluster.port import Kind, Manifest, Seen
from agentic_serving.cluster.selectors import matches
from agentic_serving.errors import Expired

__all__ = ["Change", "History"]


@dataclass(frozen=True, slots=True)
class Change:
    """An object before and after: None where it was not there, or is gone."""

    kind: Kind
    before: Manifest | None
    after: Manifest | None
    version: int

    def seen_by(self, kind: Kind, namespace: str | None, selector: str) -> Seen | None:
        """What a watch with this selector tells of it; None: nothing."""
        obj = self.after or self.before
        assert obj is not None  # noqa: S101 - one of the two is there
        if self.kind != kind or namespace not in (None, obj["metadata"].get("namespace", "")):
            return None
        was, now = (self._fits(selector, state) for state in (self.before, self.after))
        if not was and not now:
            return None
        happened: Literal["ADDED", "MODIFIED", "DELETED"]
        happened = "MODIFIED" if was and now else "ADDED" if now else "DELETED"
        shown = copied(obj)
        shown["metadata"]["resourceVersion"] = str(self.version)
        return Seen(happened, shown)

    @staticmethod
    def _fits(selector: str, obj: Manifest | None) -> bool:
        return obj is not None and matches(selector, obj["metadata"].get("labels") or {})


class History:
    """Every change since the beginning, or since it was last forgotten."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._changes: list[Change] = []
        self._oldest = 0  # the latest version that is forgotten
        self._last: dict[Key, Manifest] = {}
        self._open: set[asyncio.Queue[Change | None]] = set()
        objects.listeners.append(self._heard)

    @property
    def watches(self) -> int:
        return len(self._open)

    def since(self, version: str) -> AsyncIterator[Change]:
        """
        Raises:
            Expired: it is forgotten what happened since.
        """
        if int(version) < self._oldest:
            raise Expired(f"too old resource version: {version} ({self._oldest})", code=410, reason="Expired")
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        for change in self._changes:
            if change.version > int(version):
                queue.put_nowait(change)
        self._open.add(queue)
        return self._from(queue)

    def hang_up(self) -> None:
        for queue in self._open:
            queue.put_nowait(None)

    def forget(self) -> None:
        self._changes.clear()
        self._oldest = self._objects.version

    async def _from(self, queue: "asyncio.Queue[Change | None]") -> AsyncIterator[Change]:
        try:
            while (change := await queue.get()) is not None:
                yield change
        finally:
            self._open.discard(queue)

    def _heard(self, event: str, kind: Kind, obj: Manifest) -> None:
        key = Key.of(kind, obj)
        before = self._last.pop(key, None)
        if event != "DELETED":
            self._last[key] = obj
        change = Change(kind, before, None if event == "DELETED" else obj, self._objects.version)
        self._changes.append(change)
        for queue in self._open:
            queue.put_nowait(change)
