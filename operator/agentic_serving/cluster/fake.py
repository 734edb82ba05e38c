"""The port in memory: an API server's bookkeeping and server-side apply, with failures on demand.

For unit tests of whatever drives a `Cluster`. It keeps resource versions, uids, generations and field
ownership, checks preconditions, and tells subscribers what happened. Tests act as everybody else through
`seed`, `edit` and `drop`, which are not recorded as calls.
Not modelled: schemas, validation, defaults, admission, access rights, namespaces, the `Orphan` propagation.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from agentic_serving import names
from agentic_serving.clock import Clock, ManualClock
from agentic_serving.cluster.fake_objects import Key, Objects, copied
from agentic_serving.cluster.fake_watch import History
from agentic_serving.cluster.kinds import ALL_KINDS
from agentic_serving.cluster.port import Kind, Listing, Manifest, Seen
from agentic_serving.cluster.selectors import matches
from agentic_serving.errors import NotFound

__all__ = ["Call", "FakeCluster"]

_READS = frozenset({"get", "list", "watch", "served"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request that the code under test sent."""

    verb: str  # get, list, watch, apply, apply_status, create, delete, served
    kind: Kind | None = None
    namespace: str = ""
    name: str = ""
    manifest: Manifest | None = None
    dry_run: bool = False

    @property
    def is_write(self) -> bool:
        return self.verb not in _READS and not self.dry_run


@dataclass(slots=True)
class _Failure:
    error: Exception
    after_effect: bool
    left: int  # how often it still strikes
    verb: str = ""
    kind: Kind | None = None
    name: str = ""
    index: int | None = None  # of the call, in `calls`

    def strikes(self, call: Call, index: int) -> bool:
        return self.left > 0 and (
            self.index in (None, index)
            and self.verb in ("", call.verb)
            and self.kind in (None, call.kind)
            and self.name in ("", call.name)
        )


# `list` is a method below; inside the class it no longer names the type.
_Calls = list[Call]
_Failures = list[_Failure]
_Manifests = list[Manifest]
_Keys = list[tuple[Kind, str, str]]


class FakeCluster:
    """A `Cluster` in memory."""

    def __init__(
        self, *, served: Iterable[Kind] = ALL_KINDS, clock: Clock | None = None, page_size: int = 500
    ) -> None:
        self.calls: _Calls = []
        self._served = set(served)
        self._objects = Objects(clock or ManualClock())
        self._history = History(self._objects)
        self._page_size = page_size
        self._failures: _Failures = []

    # What the code under test calls.

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        async with self._call(Call("get", kind, namespace or "", name)):
            return self._objects.get(Key(kind, namespace or "", name))

    async def pages(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = ""
    ) -> AsyncIterator[Listing]:
        version = str(self._objects.version)
        found = [
            obj
            for obj in self.objects(kind)
            if (namespace is None or obj["metadata"].get("namespace", "") == namespace)
            and matches(label_selector, obj["metadata"].get("labels") or {})
        ]
        for start in range(0, max(len(found), 1), self._page_size):
            async with self._call(Call("list", kind, namespace or "")):
                page = Listing(found[start : start + self._page_size], version)
            yield page

    async def list(self, kind: Kind, namespace: str | None = None, *, label_selector: str = "") -> Listing:
        items: _Manifests = []
        version = ""
        async for page in self.pages(kind, namespace, label_selector=label_selector):
            items += page.items
            version = page.resource_version
        return Listing(items, version)

    async def watch(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", resource_version: str
    ) -> AsyncGenerator[Seen, None]:
        """Ends only by `hang_up`."""
        async with self._call(Call("watch", kind, namespace or "")):
            events = self._history.since(resource_version)
        async for change in events:
            seen = change.seen_by(kind, namespace, label_selector)
            if seen is not None:
                yield seen

    async def apply(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        key = Key.of(kind, manifest)
        async with self._call(Call("apply", kind, key.namespace, key.name, copied(manifest), dry_run)):
            return self._objects.apply(key, manifest, names.FIELD_MANAGER, dry_run=dry_run)

    async def apply_status(self, kind: Kind, manifest: Manifest) -> Manifest:
        key = Key.of(kind, manifest)
        async with self._call(Call("apply_status", kind, key.namespace, key.name, copied(manifest))):
            return self._objects.apply_status(key, manifest, names.FIELD_MANAGER)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        namespace, name = (manifest["metadata"].get(field, "") for field in ("namespace", "name"))
        async with self._call(Call("create", kind, namespace, name, copied(manifest))):
            return self._objects.create(kind, manifest, names.FIELD_MANAGER)

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str,
        resource_version: str = "",
        propagation: str = "Background",  # noqa: ARG002 - the port's; `collect_garbage` is always in the background
    ) -> None:
        async with self._call(Call("delete", kind, namespace or "", name)):
            self._objects.delete(Key(kind, namespace or "", name), uid=uid, resource_version=resource_version)

    async def served(self) -> frozenset[tuple[str, str, str]]:
        async with self._call(Call("served")):
            return frozenset(kind.gvk for kind in self._served)

    async def close(self) -> None:
        """Nothing to give back."""

    # What tests do and look at.

    @property
    def writes(self) -> _Calls:
        """The calls that meant to change something."""
        return [call for call in self.calls if call.is_write]

    def fail_next(
        self,
        error: Exception,
        *,
        verb: str = "",
        kind: Kind | None = None,
        name: str = "",
        times: int = 1,
        after_effect: bool = False,
    ) -> None:
        """The next `times` calls that fit raise `error`: before they do anything, or after they did it."""
        self._failures.append(_Failure(error, after_effect, times, verb, kind, name))

    def fail_at(self, index: int, error: Exception, *, after_effect: bool = False) -> None:
        """The call number `index` (0 is the next one) raises `error`."""
        self._failures.append(_Failure(error, after_effect, 1, index=len(self.calls) + index))

    def heal(self) -> None:
        """Forget every failure asked for."""
        self._failures.clear()

    def serve(self, kind: Kind, *, served: bool = True) -> None:
        """Install a kind, or stop serving it."""
        (self._served.add if served else self._served.discard)(kind)

    def seed(self, kind: Kind, manifest: Manifest, *, manager: str = "kubectl") -> Manifest:
        """Somebody else creates an object."""
        return self._objects.create(kind, manifest, manager)

    def edit(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Callable[[Manifest], None],
        *,
        manager: str = "kubectl-edit",
    ) -> Manifest:
        """Somebody else changes an object, status included: `change` mutates what it is given."""
        return self._objects.edit(Key(kind, namespace, name), change, manager)

    def drop(self, kind: Kind, namespace: str, name: str) -> None:
        """Somebody else deletes an object."""
        key = Key(kind, namespace, name)
        self._objects.delete(key, uid=self._objects.get(key)["metadata"]["uid"])

    def peek(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        try:
            return self._objects.get(Key(kind, namespace or "", name))
        except NotFound:
            return None

    def objects(self, kind: Kind | None = None) -> _Manifests:
        """Copies of all objects (of one kind), ordered by namespace and name."""
        return self._objects.all_of(kind)

    def subscribe(self, callback: Callable[[str, Kind, Manifest], None]) -> None:
        """`callback` is told of every change from now on: ADDED, MODIFIED or DELETED, kind, object."""
        self._objects.listeners.append(callback)

    def hang_up(self) -> None:
        """Every watch ends, as when the server closes them."""
        self._history.hang_up()

    def forget_history(self) -> None:
        """Versions before now are too old to watch from."""
        self._history.forget()

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return self._history.watches

    def collect_garbage(self) -> _Keys:
        """Delete, level by level, what no living owner is left of; what was deleted."""
        return [(key.kind, key.namespace, key.name) for key in self._objects.collect_garbage()]

    @asynccontextmanager
    async def _call(self, call: Call) -> AsyncIterator[None]:
        """Record a call, let other tasks in between as a network would, and fail where that was asked for."""
        index = len(self.calls)
        self.calls.append(call)
        await asyncio.sleep(0)
        failure = next((f for f in self._failures if f.strikes(call, index)), None)
        if failure:
            failure.left -= 1
        if failure and not failure.after_effect:
            raise failure.error
        if call.kind is not None and call.kind not in self._served:
            raise NotFound("the server could not find the requested resource", code=404)
        yield
        if failure:
            raise failure.error
