"""Keys: what the queue holds and `reconcile` takes. Never an event, never a diff."""

from dataclasses import dataclass

from agentic_serving import names
from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind, Manifest

__all__ = ["OWN_KINDS", "Key", "key_of", "owner_key", "owner_reference"]

#: The kinds that are reconciled, by name.
OWN_KINDS: dict[str, Kind] = {kind.kind: kind for kind in (kinds.STACK, kinds.PROGRAM, kinds.POLICY)}


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One of our objects by name: two objects that follow each other under one name share a key."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def resource(self) -> Kind:
        return OWN_KINDS[self.kind]


def key_of(kind: Kind, obj: Manifest) -> Key:
    """The key of one of our own objects."""
    return Key(kind.kind, obj["metadata"]["namespace"], obj["metadata"]["name"])


def owner_reference(obj: Manifest) -> Manifest | None:
    """The reference to the controller of an object, if it has one."""
    references: list[Manifest] = obj["metadata"].get("ownerReferences") or []
    return next((r for r in references if r.get("controller")), None)


def owner_key(obj: Manifest) -> Key | None:
    """The key of the one of our objects that controls this child, if one does."""
    owner = owner_reference(obj)
    if owner is None or not str(owner.get("apiVersion", "")).startswith(f"{names.GROUP}/"):
        return None
    if owner.get("kind") not in OWN_KINDS:
        return None
    return Key(owner["kind"], obj["metadata"].get("namespace", ""), owner.get("name", ""))
