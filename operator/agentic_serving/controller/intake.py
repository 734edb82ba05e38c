"""Events in, keys out: put the object into the store, and its owner into the queue. O(1) in the number of objects.

What an event says is not believed beyond that: the store decides whether it is news, and our own writes are not
(their answers are in the store before their echo arrives).
"""

from collections.abc import Iterable

from agentic_serving.clock import Clock
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind, Manifest
from agentic_serving.cluster.store import ObjectStore
from agentic_serving.controller.keys import OWN_KINDS, Key, key_of, owner_key
from agentic_serving.controller.queue import Lane, WorkQueue
from agentic_serving.controller.references import References, references_of

__all__ = ["Intake"]


class Intake:
    """Where events of all kinds end.

    Args:
        coalesce_s: how long a change of a child's status waits for further ones.
    """

    def __init__(
        self, store: ObjectStore, references: References, queue: WorkQueue, clock: Clock, *, coalesce_s: float
    ) -> None:
        self._store = store
        self._references = references
        self._queue = queue
        self._clock = clock
        self._coalesce_s = coalesce_s
        self.last_event_s: dict[str, float] = {}  # by kind, on the monotonic clock

    def deliver(self, kind: Kind, obj: Manifest, *, deleted: bool) -> None:
        """Take one watch event."""
        self.last_event_s[kind.kind] = self._clock.monotonic_s()
        if kind.kind in OWN_KINDS:
            self._own(kind, obj, deleted=deleted)
        else:
            self._child(kind, obj, deleted=deleted)

    def listed(self, kind: Kind, items: Iterable[Manifest]) -> None:
        """Take objects from a list."""
        for item in items:
            if kind.kind in OWN_KINDS:
                self._own(kind, item, deleted=False)
            else:
                self._child(kind, item, deleted=False)

    def vanished(self, kind: Kind, obj: Manifest) -> None:
        """An object that the store held is missing from a whole list: its deletion was never told."""
        if kind.kind in OWN_KINDS:
            self._forget_own(key_of(kind, obj))
        else:
            self._wake(owner_key(obj))

    def _own(self, kind: Kind, obj: Manifest, *, deleted: bool) -> None:
        key = key_of(kind, obj)
        if deleted:
            if self._store.remove(kind, obj):
                self._forget_own(key)
            return
        known = self._store.get(kind, key.namespace, key.name)
        if not self._store.put(kind, obj):
            return
        if known is not None and _same_spec(known, obj):
            return  # somebody changed labels, or our own status came back
        # First sight is bulk: after a restart everything is new. An edit is somebody waiting.
        lane = Lane.BULK if known is None else Lane.URGENT
        self._queue.add(key, lane=lane)
        self._wake_around(key, self._references.update(key, references_of(key, obj)), lane)

    def _forget_own(self, key: Key) -> None:
        self._queue.add(key, lane=Lane.URGENT)
        self._wake_around(key, self._references.remove(key), Lane.URGENT)

    def _wake_around(self, key: Key, targets: Iterable[Key], lane: Lane) -> None:
        """Whoever refers to the object, and whatever it refers to or did before."""
        for other in (*self._references.referrers(key), *targets):
            self._queue.add(other, lane=lane)

    def _child(self, kind: Kind, obj: Manifest, *, deleted: bool) -> None:
        if deleted:
            if self._store.remove(kind, obj):
                self._wake(owner_key(obj))
            return
        # Only Deployments report to us: what they say comes often, and may wait for more of it.
        may_wait = kind == kinds.DEPLOYMENT and self._same_generation(kind, obj)
        if self._store.put(kind, obj):
            self._wake(owner_key(obj), after_s=self._coalesce_s if may_wait else 0.0)

    def _same_generation(self, kind: Kind, obj: Manifest) -> bool:
        metadata = obj["metadata"]
        known = self._store.get(kind, metadata.get("namespace", ""), metadata["name"])
        return known is not None and known["metadata"].get("generation") == metadata.get("generation")

    def _wake(self, key: Key | None, *, after_s: float = 0.0) -> None:
        if key is not None:
            self._queue.add(key, after_s=after_s)


def _same_spec(known: Manifest, obj: Manifest) -> bool:
    """Whether nothing changed that a reconcile reads.

    The generation counts changes of the spec only; deletion and re-creation are others that matter.
    """
    fields = ("uid", "generation", "deletionTimestamp")
    return all(known["metadata"].get(f) == obj["metadata"].get(f) for f in fields)
