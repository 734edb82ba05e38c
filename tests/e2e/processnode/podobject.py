"""A pod as the API server has it: its newest object, its status, its end, Events about it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from .api import Api, ApiError, Manifest
from .events import EventType, Recorder
from .records import ContainerRecord
from .status import PodFacts, pod_status

__all__ = ["PodObject"]


class PodObject:
    """See the module. A pod that is gone, or replaced by another of its name, is written to no more: no error."""

    def __init__(self, api: Api, events: Recorder, pod: Manifest) -> None:
        self._api = api
        self._events = events
        self.newest = pod
        self.uid = str(pod["metadata"]["uid"])
        metadata = pod["metadata"]
        self.name = f"{metadata['namespace']}/{metadata['name']}"
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._published: dict[str, Any] = {}

    @property
    def metadata(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.newest["metadata"]
        return found

    @property
    def spec(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.newest["spec"]
        return found

    def update(self, pod: Manifest) -> None:
        """Take an object that the API server sent, unless a newer one is known."""
        if int(pod["metadata"]["resourceVersion"]) > int(self.metadata["resourceVersion"]):
            self.newest = pod

    async def publish(self, records: Sequence[ContainerRecord], facts: PodFacts) -> None:
        """Write the status if it differs from what was written last."""
        status = pod_status(self.newest, records, facts, time.time())
        if status == self._published:
            return
        try:
            body = {"metadata": {"uid": self.uid}, "status": status}
            written = await self._api.merge(f"{self._path}/status", body)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return
        self._published = status
        self.update(written)

    async def delete(self) -> None:
        """Take the object away, which a pod's node does last."""
        body: Mapping[str, Any] = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        try:
            await self._api.call("DELETE", self._path, body)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def event(self, type_: EventType, reason: str, message: str) -> None:
        self._events.record(self.newest, type_, reason, message)
