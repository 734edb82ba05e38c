"""Kubernetes Events: told on transitions only, after the status that they are about was written, and rate-bound.

An Event that cannot be written is logged and lost: the condition says the same.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from agentic_serving import names
from agentic_serving.clock import Clock
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Cluster, Manifest
from agentic_serving.errors import ClusterError

__all__ = ["Note", "Recorder"]

_log = logging.getLogger(__name__)
_COMPONENT = f"{names.GROUP}/operator"
#: client-go's spam filter (tools/record/events_cache.go): 25 at once, then one per 5 minutes, per object.
_BURST = 25.0
_REFILL_PER_S = 1 / 300
#: Objects whose rate is remembered; client-go keeps 4,096.
_MAX_OBJECTS = 4096
#: Limit of events.k8s.io/v1 (pkg/apis/core/validation/events.go, NoteLengthLimit).
_MAX_NOTE_CHARS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What an Event says."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    action: str = "Reconcile"


class Recorder:
    """Writes Events about our objects.

    Args:
        unique: gives 16 other hexadecimal digits at each call.
    """

    def __init__(self, cluster: Cluster, clock: Clock, *, identity: str, unique: Callable[[], str]) -> None:
        self._cluster = cluster
        self._clock = clock
        self._identity = identity
        self._unique = unique
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # uid: (tokens, at)

    async def record(self, about: Manifest, note: Note) -> bool:
        """Write the Event; False where the object had too many, or the API server refused it."""
        if not self._allowed(about["metadata"]["uid"]):
            return False
        try:
            await self._cluster.create(kinds.EVENT, self._event(about, note))
        except ClusterError as error:
            _log.warning("an Event was lost", extra={"error": str(error), "reason": note.reason})
            return False
        return True

    def _allowed(self, uid: str) -> bool:
        now_s = self._clock.monotonic_s()
        tokens, at_s = self._buckets.pop(uid, (_BURST, now_s))
        tokens = min(_BURST, tokens + (now_s - at_s) * _REFILL_PER_S)
        allowed = tokens >= 1
        self._buckets[uid] = (tokens - 1 if allowed else tokens, now_s)
        while len(self._buckets) > _MAX_OBJECTS:
            self._buckets.popitem(last=False)
        return allowed

    def _event(self, about: Manifest, note: Note) -> Manifest:
        metadata = about["metadata"]
        # 253 characters, of which the unique suffix takes 17.
        name = f"{metadata['name'][:230].rstrip('-.')}.{self._unique()}"
        return {
            "apiVersion": kinds.EVENT.api_version,
            "kind": kinds.EVENT.kind,
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "eventTime": self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": _COMPONENT,
            "reportingInstance": self._identity[:128],
            "action": note.action,
            "reason": note.reason[:128],
            "type": note.type,
            "note": note.message[:_MAX_NOTE_CHARS],
            "regarding": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
        }
