"""Events about pods, as a kubelet records them: a repeated one is counted, not written anew."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from .api import Api, ApiError

__all__ = ["EventType", "Recorder"]

EventType = Literal["Normal", "Warning"]

_SHOWN = 1000  # the API server refuses messages above 1 KiB


class Recorder:
    """Writes in the background; an event that the API server refuses is lost."""

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._node = node
        self._queue: asyncio.Queue[tuple[Mapping[str, Any], str, str, str]] = asyncio.Queue()
        self._known: dict[tuple[str, str, str], tuple[str, int]] = {}

    def record(self, pod: Mapping[str, Any], type_: EventType, reason: str, message: str) -> None:
        self._queue.put_nowait((pod, type_, reason, message[:_SHOWN]))

    async def run(self) -> None:
        while True:
            pod, type_, reason, message = await self._queue.get()
            try:
                await self._write(pod, type_, reason, message)
            except ApiError:
                continue  # its namespace is going, or the event has expired

    async def _write(self, pod: Mapping[str, Any], type_: str, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        key = (metadata["uid"], reason, message)
        if key in self._known:
            name, count = self._known[key]
            self._known[key] = (name, count + 1)
            await self._api.merge(f"{path}/{name}", {"count": count + 1, "lastTimestamp": now})
            return
        created = await self._api.call("POST", path, {
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"generateName": f"{metadata['name'][:200]}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"],
                "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"],
            },
            "reason": reason, "message": message, "type": type_, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": "kubelet", "host": self._node},
            "reportingComponent": "kubelet", "reportingInstance": self._node,
        })  # fmt: skip
        self._known[key] = (created["metadata"]["name"], 1)
