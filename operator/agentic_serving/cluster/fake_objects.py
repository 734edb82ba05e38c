"""The objects of the cluster in memory, and what an API server does to them on each write.

Source: Kubernetes API conventions (metadata), KEP-555 (server-side apply), garbage collection by uid.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from agentic_serving.clock import Clock, timestamp
from agentic_serving.cluster.fields import FieldSet, Path, apply_fields, flatten, parse_fields, to_fields_v1
from agentic_serving.cluster.port import Kind, Manifest
from agentic_serving.errors import Conflict, NotFound, Rejected

__all__ = ["Key", "Objects", "copied"]

#: Metadata that only the server writes, or that names the object.
_SERVER_METADATA = frozenset(
    {
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp",
        "managedFields", "generateName", "selfLink",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Key:
    """Names one object."""

    kind: Kind
    namespace: str
    name: str

    @classmethod
    def of(cls, kind: Kind, manifest: Manifest) -> "Key":
        return cls(kind, manifest["metadata"].get("namespace", ""), manifest["metadata"]["name"])

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}"'


def copied(manifest: Manifest) -> Manifest:
    """A deep copy, and the proof that it is plain JSON."""
    twin: Manifest = orjson.loads(orjson.dumps(manifest))
    return twin


@dataclass(slots=True)
class Objects:
    """All objects by key, with the server's counters."""

    clock: Clock
    version: int = 1
    listeners: list[Callable[[str, Kind, Manifest], None]] = field(default_factory=list)
    _held: dict[Key, Manifest] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def get(self, key: Key) -> Manifest:
        if key not in self._held:
            raise NotFound(f"{key} not found", code=404, reason="NotFound")
        return copied(self._held[key])

    def all_of(self, kind: Kind | None) -> list[Manifest]:
        keys = [key for key in self._held if kind in (None, key.kind)]
        return [copied(self._held[k]) for k in sorted(keys, key=lambda k: (str(k.kind), k.namespace, k.name))]

    def create(self, kind: Kind, manifest: Manifest, manager: str) -> Manifest:
        obj = copied(manifest)
        metadata = obj["metadata"]
        if not metadata.get("name"):
            metadata["name"] = f"{metadata['generateName']}{next(self._numbers):05d}"
        key = Key.of(kind, obj)
        if key in self._held:
            raise Conflict(f"{key} already exists", code=409, reason="AlreadyExists")
        _own(obj, _Manager(manager, "Update"), set(flatten(_stated(obj))), self.clock)
        return self._store(key, obj)

    def apply(self, key: Key, manifest: Manifest, manager: str, *, dry_run: bool) -> Manifest:
        live = self._held.get(key)
        self._check(key, manifest)
        if "managedFields" in manifest["metadata"]:
            raise Rejected("metadata.managedFields must be nil", code=400, reason="BadRequest")
        stated = _stated(manifest)
        if live is None:
            live = {
                **{f: manifest[f] for f in ("apiVersion", "kind")},
                "metadata": dict(manifest["metadata"]),
            }
            live["metadata"].pop("resourceVersion", None)
            for name in set(live["metadata"]) - {"name", "namespace"}:
                del live["metadata"][name]
        merged = _applied(copied(live), stated, _Manager(manager, "Apply"), self.clock)
        return copied(merged) if dry_run else self._store(key, merged)

    def apply_status(self, key: Key, manifest: Manifest, manager: str) -> Manifest:
        live = self.get(key)
        self._check(key, manifest)
        stated = {"status": copied(manifest).get("status") or {}}
        return self._store(key, _applied(live, stated, _Manager(manager, "Apply", "status"), self.clock))

    def edit(self, key: Key, change: Callable[[Manifest], None], manager: str) -> Manifest:
        before, after = self.get(key), self.get(key)
        change(after)
        old, new = flatten(_stated(before, status=True)), flatten(_stated(after, status=True))
        touched = {path for path, value in new.items() if path not in old or old[path] != value}
        _disown(after, touched | (old.keys() - new.keys()), but=None)
        who = _Manager(manager, "Update")
        _own(after, who, _owned_by(after, who) | touched, self.clock)
        return self._store(key, after)

    def delete(self, key: Key, *, uid: str, resource_version: str = "") -> None:
        live = self.get(key)
        self._check(key, {"metadata": {"uid": uid, "resourceVersion": resource_version}})
        if live["metadata"].get("finalizers"):
            live["metadata"].setdefault("deletionTimestamp", timestamp(self.clock.now()))
            self._store(key, live)
        else:
            self._remove(key)

    def collect_garbage(self) -> list[Key]:
        gone: list[Key] = []
        while True:
            alive = {obj["metadata"]["uid"] for obj in self._held.values()}
            orphans = [key for key, obj in self._held.items() if _is_orphan(obj, alive)]
            if not orphans:
                return gone
            for key in orphans:
                self._remove(key)
            gone += orphans

    def _check(self, key: Key, manifest: Manifest) -> None:
        """The preconditions that a manifest's metadata states."""
        live = self._held.get(key)
        metadata = manifest["metadata"]
        for name in ("uid", "resourceVersion"):
            asked = metadata.get(name)
            if not asked or (live is None and name == "resourceVersion"):
                continue  # as the real one: a version alone does not stop an apply from creating
            if live is None or live["metadata"][name] != asked:
                raise Conflict(f"{key}: {name} is not {asked}", code=409, reason="Conflict")

    def _store(self, key: Key, obj: Manifest) -> Manifest:
        before = self._held.get(key)
        metadata = obj["metadata"]
        if before is None:
            metadata["uid"] = f"00000000-0000-4000-8000-{next(self._numbers):012d}"
            metadata["creationTimestamp"] = timestamp(self.clock.now())
            metadata["generation"] = 1
        elif _unchanged(before, obj):
            return copied(before)
        elif _spec(before) != _spec(obj):
            metadata["generation"] = before["metadata"]["generation"] + 1
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self._held[key] = copied(obj)
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self._remove(key)
        else:
            self._tell("MODIFIED" if before else "ADDED", key)
        return copied(obj)

    def _remove(self, key: Key) -> None:
        self.version += 1
        self._held[key]["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", key)
        del self._held[key]

    def _tell(self, event: str, key: Key) -> None:
        for listener in self.listeners:
            listener(event, key.kind, copied(self._held[key]))


@dataclass(frozen=True, slots=True)
class _Manager:
    """Who owns fields, and how they came to."""

    name: str
    operation: str  # Apply or Update
    subresource: str = ""

    def entry_of(self, obj: Manifest) -> Manifest | None:
        for entry in obj["metadata"].get("managedFields") or ():
            found = (entry["manager"], entry["operation"], entry.get("subresource", ""))
            if found == (self.name, self.operation, self.subresource):
                return dict(entry)
        return None


def _applied(live: Manifest, stated: Manifest, who: _Manager, clock: Clock) -> Manifest:
    """`live` after a forced apply of `stated`."""
    new: FieldSet = flatten(stated)
    old = flatten(_stated(live, status=True))
    others = _owned_by_others(live, who)
    mine = _owned_by(live, who)
    kept = set(new) | others
    merged: Manifest = apply_fields(live, stated, mine - new.keys(), kept)
    changed = {path for path, value in new.items() if path in old and old[path] != value}
    _disown(merged, changed, but=who)
    _own(merged, who, set(new), clock)
    return merged


def _stated(manifest: Manifest, *, status: bool = False) -> Manifest:
    """What a manifest says apart from its identity, and apart from its status unless asked for."""
    left_out = {"apiVersion", "kind", "metadata"} | (set() if status else {"status"})
    stated = {name: value for name, value in copied(manifest).items() if name not in left_out}
    metadata = {k: v for k, v in manifest["metadata"].items() if k not in _SERVER_METADATA}
    return {**stated, "metadata": copied(metadata)} if metadata else stated


def _owned_by(obj: Manifest, who: _Manager) -> set[Path]:
    entry = who.entry_of(obj)
    return parse_fields(entry["fieldsV1"]) if entry else set()


def _owned_by_others(obj: Manifest, who: _Manager) -> set[Path]:
    mine = who.entry_of(obj)
    entries = obj["metadata"].get("managedFields") or ()
    return set().union(*(parse_fields(entry["fieldsV1"]) for entry in entries if entry != mine))


def _own(obj: Manifest, who: _Manager, paths: set[Path], clock: Clock) -> None:
    """Make the manager's entry say exactly these paths; its time moves only if they change."""
    fields = to_fields_v1(paths)
    old = who.entry_of(obj)
    entries = [entry for entry in obj["metadata"].get("managedFields") or () if entry != old]
    if paths:
        entry = {
            "manager": who.name,
            "operation": who.operation,
            "apiVersion": obj["apiVersion"],
            "time": old["time"] if old and old["fieldsV1"] == fields else timestamp(clock.now()),
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        entries.append(entry | ({"subresource": who.subresource} if who.subresource else {}))
    obj["metadata"]["managedFields"] = entries


def _disown(obj: Manifest, paths: set[Path], *, but: _Manager | None) -> None:
    """Nobody (but one) owns these paths, nor anything below them, any longer."""
    spared = but.entry_of(obj) if but else None
    entries = []
    for entry in obj["metadata"].get("managedFields") or ():
        if entry != spared:
            left = {p for p in parse_fields(entry["fieldsV1"]) if not _covered(p, paths)}
            entry = {**entry, "fieldsV1": to_fields_v1(left)}
        if entry["fieldsV1"]:
            entries.append(entry)
    obj["metadata"]["managedFields"] = entries


def _covered(path: Path, paths: set[Path]) -> bool:
    return any(path[:depth] in paths for depth in range(1, len(path) + 1))


def _is_orphan(obj: Manifest, alive: set[str]) -> bool:
    owners = obj["metadata"].get("ownerReferences") or []
    return bool(owners) and not any(owner["uid"] in alive for owner in owners)


def _unchanged(before: Manifest, after: Manifest) -> bool:
    """Equal, whatever the order in which managers are listed."""

    def comparable(obj: Manifest) -> Manifest:
        metadata = {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}
        entries = sorted(metadata.get("managedFields") or (), key=orjson.dumps)
        return {**obj, "metadata": {**metadata, "managedFields": entries}}

    return comparable(before) == comparable(after)


def _spec(obj: Manifest) -> Manifest:
    """What counts for the generation."""
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}
