"""A folder for every PersistentVolumeClaim that has no volume: what a storage provisioner does in a real cluster.

The volume names its claim, so the controller manager's own binder makes the claim Bound.
"""

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .api import Api, ApiError, Manifest

__all__ = ["ClaimBinder"]

_LABEL = "process-node"


class ClaimBinder:
    """Told of claims, it makes and removes volumes in the background."""

    def __init__(self, api: Api, folder: Path, node: str) -> None:
        self._api = api
        self._folder = folder
        self._node = node
        self._queue: asyncio.Queue[tuple[str, Manifest]] = asyncio.Queue()
        self._seen: set[str] = set()

    def changed(self, change: str, claim: Manifest) -> None:
        self._queue.put_nowait((change, claim))

    def folder(self, claim: Mapping[str, Any]) -> Path:
        return self._folder / str(claim["metadata"]["uid"])

    async def run(self) -> None:
        while True:
            change, claim = await self._queue.get()
            uid = claim["metadata"]["uid"]
            if change == "DELETED":
                self._seen.discard(uid)
                await self._remove(claim)
            elif uid not in self._seen and not claim["spec"].get("volumeName"):
                self._seen.add(uid)
                await self._provide(claim)

    async def _provide(self, claim: Manifest) -> None:
        at = self.folder(claim)
        at.mkdir(parents=True, exist_ok=True)
        at.chmod(0o777)
        try:
            await self._api.call("POST", "/api/v1/persistentvolumes", _volume(claim, at, self._node))
        except ApiError as error:
            if error.code != 409:  # it is there already
                raise

    async def _remove(self, claim: Manifest) -> None:
        try:
            await self._api.call("DELETE", f"/api/v1/persistentvolumes/{_name(claim)}")
        except ApiError as error:
            if error.code != 404:
                raise
        await asyncio.to_thread(shutil.rmtree, self.folder(claim), ignore_errors=True)


def _name(claim: Mapping[str, Any]) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def _volume(claim: Mapping[str, Any], folder: Path, node: str) -> Manifest:
    metadata, spec = claim["metadata"], claim["spec"]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": metadata["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _name(claim), "labels": {_LABEL: node}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "storageClassName": spec.get("storageClassName") or "",
            "persistentVolumeReclaimPolicy": "Retain",  # we remove it ourselves
            "hostPath": {"path": str(folder)},
            "claimRef": {**reference, "name": metadata["name"], "uid": metadata["uid"]},
        },
    }
