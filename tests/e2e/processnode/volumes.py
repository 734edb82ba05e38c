"""A pod's volumes as folders of the node."""

import contextlib
import os
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from . import atomic
from .api import ApiError
from .context import NodeContext
from .env import PodContext
from .expand import expand
from .files import files_of, holds_objects, token_requests
from .lookup import Missing, quantity
from .spec import Mount

__all__ = ["PodVolumes"]

#: A token is asked for anew when this much of its time has passed, as a kubelet does.
_TOKEN_LIFE = 0.8
_TOKEN_DEFAULT_S = 3600


class PodVolumes:
    """Makes them, keeps those current that hold objects of the cluster, and says where they are mounted."""

    def __init__(self, node: NodeContext, context: PodContext, folder: Path) -> None:
        self._node = node
        self._context = context
        self._folder = folder
        self._group: int | None = (context.pod["spec"].get("securityContext") or {}).get("fsGroup")
        self._sources: dict[str, str] = {}  # by the volume's name
        self._read_only: set[str] = set()
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}  # and when to ask again (Unix time)
        self.memory: list[str] = []  # folders that are file systems in memory, to be unmounted at the end

    async def prepare(self) -> None:
        """Make what is not there yet.

        Raises:
            Missing: something that a volume needs is not there; to be tried again.
        """
        for volume in self._volumes():
            if volume["name"] not in self._sources or holds_objects(volume):
                self._sources[volume["name"]] = await self._make(volume)

    async def refresh(self, pod: Mapping[str, Any]) -> None:
        """Write anew what has changed in the cluster; what is missing now stays as it was."""
        self._context = PodContext(
            pod=pod, address=self._context.address, capacity=self._context.capacity, find=self._context.find
        )
        for volume in self._volumes():
            if holds_objects(volume):
                try:
                    await self._make_files(volume, self._at(volume))
                except Missing:
                    continue

    def over_limit(self) -> str:
        """What a kubelet says of an emptyDir on disk that has outgrown its sizeLimit; empty if none has."""
        for volume in self._volumes():
            given = volume.get("emptyDir") or {}
            limit = given.get("sizeLimit")
            if limit and given.get("medium") != "Memory" and _used_bytes(self._at(volume)) > quantity(limit):
                return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}".'
        return ""

    @property
    def refresh_at_s(self) -> float | None:
        """Unix time at which a token has to be asked for again."""
        return min((at_s for _, at_s in self._tokens.values()), default=None)

    def mounts(self, container: Mapping[str, Any], env: Mapping[str, str]) -> tuple[Mount, ...]:
        """The container's volume mounts.

        Raises:
            Missing: a mount names no volume of the pod.
        """
        found = []
        for mount in container.get("volumeMounts", ()):
            source = self._sources.get(mount["name"])
            if source is None:
                raise Missing(f"volume {mount['name']} is not there")
            below = mount.get("subPath") or expand(mount.get("subPathExpr") or "", env)
            read_only = bool(mount.get("readOnly")) or mount["name"] in self._read_only
            source = f"{source}/{below}" if below else source
            found.append(Mount(source=source, target=mount["mountPath"], read_only=read_only))
        return tuple(found)

    def _volumes(self) -> list[Mapping[str, Any]]:
        return list(self._context.pod["spec"].get("volumes", ()))

    def _at(self, volume: Mapping[str, Any]) -> Path:
        return self._folder / str(volume["name"])

    async def _make(self, volume: Mapping[str, Any]) -> str:
        at = self._at(volume)
        if holds_objects(volume):
            self._read_only.add(volume["name"])
            at.mkdir(parents=True, exist_ok=True)
            at.chmod(0o755)
            await self._make_files(volume, at)
        elif "emptyDir" in volume:
            await self._make_empty(volume["emptyDir"] or {}, at)
        elif "persistentVolumeClaim" in volume:
            return self._claimed(volume)
        elif "image" in volume:
            self._read_only.add(volume["name"])
            return self._image(volume["image"]["reference"])
        else:
            return _existing(Path(volume["hostPath"]["path"]), "hostPath")
        return str(at)

    async def _make_files(self, volume: Mapping[str, Any], at: Path) -> None:
        tokens = {}
        for request in token_requests(volume):
            tokens[request["path"]] = await self._token(volume["name"], request)
        atomic.write(at, files_of(volume, self._context, tokens), self._group)

    async def _make_empty(self, given: Mapping[str, Any], at: Path) -> None:
        if given.get("medium") == "Memory":
            limit = given.get("sizeLimit")
            await self._node.runtime.tmpfs(str(at), int(quantity(limit)) if limit else None, self._group)
            self.memory.append(str(at))
            return
        _make_open(at, self._group)

    def _claimed(self, volume: Mapping[str, Any]) -> str:
        given = volume["persistentVolumeClaim"]
        name, namespace = given["claimName"], self._context.pod["metadata"]["namespace"]
        claim = self._node.find("persistentvolumeclaims", namespace, name)
        bound = (claim or {}).get("spec", {}).get("volumeName")
        stored = self._node.find("persistentvolumes", "", bound) if bound else None
        if stored is None or "hostPath" not in stored["spec"]:
            raise Missing(f'persistentvolumeclaim "{name}" is not bound to a folder')
        if given.get("readOnly"):
            self._read_only.add(volume["name"])
        source = Path(_existing(Path(stored["spec"]["hostPath"]["path"]), f"persistentvolumeclaim {name}"))
        if self._group is not None and source.stat().st_gid != self._group:
            _give_to_group(source, self._group)
        return str(source)

    def _image(self, reference: str) -> str:
        if reference not in self._node.image_volumes:
            raise Missing(f"image volume {reference}: the node was given no folder for it (image_volumes)")
        return _existing(self._node.image_volumes[reference], f"image volume {reference}")

    async def _token(self, volume: str, request: Mapping[str, Any]) -> str:
        key = (volume, request["path"])
        token, renew_s = self._tokens.get(key, ("", 0.0))
        if time.time() < renew_s:
            return token
        metadata, spec = self._context.pod["metadata"], self._context.pod["spec"]
        account = spec.get("serviceAccountName", "default")
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        wanted = {
            "audiences": [request["audience"]] if request.get("audience") else [],
            "expirationSeconds": request.get("expirationSeconds", _TOKEN_DEFAULT_S),
            "boundObjectRef": {
                "apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"],
            },
        }  # fmt: skip
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": wanted}
        try:
            status = (await self._node.api.call("POST", path, body))["status"]
        except ApiError as error:
            raise Missing(f"token of service account {account}: {error}") from error
        now_s, ends_s = time.time(), datetime.fromisoformat(status["expirationTimestamp"]).timestamp()
        self._tokens[key] = (str(status["token"]), now_s + _TOKEN_LIFE * (ends_s - now_s))
        return str(status["token"])


def _make_open(at: Path, group: int | None) -> None:
    """A folder that everybody may write, as an emptyDir is."""
    at.mkdir(parents=True, exist_ok=True)
    at.chmod(0o777)
    if group is not None:
        os.chown(at, -1, group)
        at.chmod(0o2777)


def _existing(path: Path, what: str) -> str:
    if not path.exists():
        raise Missing(f"{what}: {path} is not there")
    return str(path.resolve())


def _used_bytes(folder: Path) -> int:
    used = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                used += Path(at, name).lstat().st_blocks * 512  # stat(2): blocks of 512 bytes
    return used


def _give_to_group(folder: Path, group: int) -> None:
    """As fsGroup asks: the group owns everything, and what is made later too."""
    for at in (folder, *folder.rglob("*")):
        if at.is_symlink():
            continue
        os.chown(at, -1, group)
        at.chmod(at.stat().st_mode | (0o2770 if at.is_dir() else 0o660))
