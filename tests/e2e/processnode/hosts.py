"""Names of Services as /etc/hosts files, one for each pod, kept current: what a cluster's DNS would answer.

Not modelled: ExternalName Services, SRV records, and names of pods by address. A headless Service has a line for each
ready pod, and a resolver returns all of them.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .follow import Objects

__all__ = ["PATHS", "HostsFiles", "Reader", "hosts_text"]

_SERVICES = "/api/v1/services"
_SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
PATHS = (_SERVICES, _SLICES)

DOMAIN = "cluster.local"
_LOCAL = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who reads a file: short names are those of its namespace, and it has a line of its own."""

    namespace: str
    hostname: str = ""
    address: str = ""


def hosts_text(services: Objects, slices: Objects, reader: Reader) -> str:
    """The whole file; the same objects give the same text."""
    own = f"{reader.address} {reader.hostname}\n" if reader.hostname else ""
    lines = sorted(set(_lines(services, slices, reader.namespace)))
    return _LOCAL + own + "".join(f"{line}\n" for line in lines)


def _lines(services: Objects, slices: Objects, reader: str) -> Iterator[str]:
    for (namespace, name), service in services.items():
        address = service["spec"].get("clusterIP")
        if address == "None":
            yield from _headless(namespace, name, slices, reader)
        elif address:
            yield f"{address} {_names(name, namespace, reader)}"


def _headless(namespace: str, service: str, slices: Objects, reader: str) -> Iterator[str]:
    for (where, _), part in slices.items():
        labels = part["metadata"].get("labels", {})
        if where != namespace or labels.get("kubernetes.io/service-name") != service:
            continue
        for endpoint in _ready(part):
            for address in endpoint["addresses"]:
                yield f"{address} {_names(service, namespace, reader)}"
                if endpoint.get("hostname"):
                    yield f"{address} {_names(endpoint['hostname'] + '.' + service, namespace, reader)}"


def _ready(part: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for endpoint in part.get("endpoints") or ():
        if endpoint.get("conditions", {}).get("ready") is not False:  # unknown counts as ready
            yield endpoint


def _names(name: str, namespace: str, reader: str) -> str:
    long = f"{name}.{namespace}"
    names = [f"{long}.svc.{DOMAIN}", f"{long}.svc", long]
    return " ".join([*names, name] if namespace == reader else names)


class HostsFiles:
    """Files in one folder, rewritten when what a `Follower` of `PATHS` sees changes their text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[Reader, str]] = {}
        self._services: Objects = {}
        self._slices: Objects = {}

    def changed(self, collections: Mapping[str, Objects]) -> None:
        """For the follower."""
        with self._lock:
            self._services, self._slices = dict(collections[_SERVICES]), dict(collections[_SLICES])
            for path, (reader, text) in self._files.items():
                self._write(path, reader, text)

    def add(self, name: str, reader: Reader) -> Path:
        """A current file for this reader; a second call with the same name returns the same file."""
        path = self._folder / name
        with self._lock:
            if path not in self._files:
                path.touch(mode=0o644)
                self._write(path, reader, "")
        return path

    def remove(self, name: str) -> None:
        path = self._folder / name
        with self._lock:
            if self._files.pop(path, None) is not None:
                path.unlink(missing_ok=True)

    def _write(self, path: Path, reader: Reader, old: str) -> None:
        text = hosts_text(self._services, self._slices, reader)
        self._files[path] = (reader, text)
        if text == old:
            return
        # In place, as a bind mount holds on to the inode; in one write and padded, so that nobody who reads
        # in between sees half a file or the end of the old one.
        content = text.encode()
        with path.open("r+b", buffering=0) as file:
            file.write(content.ljust(len(old.encode()), b"\n"))
            file.truncate(len(content))
