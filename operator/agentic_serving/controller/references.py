"""Who refers to whom: programs to stacks, stacks to policies, both ways in O(1).

Kept up to date by every event, so that a change of a program or a policy wakes exactly the stacks that it
concerns. KServe's controller scans all objects in its event handlers: two thirds of its CPU (measured, v0.20.0).
References are by name, and stay while the object that they name does not exist.
"""

from collections.abc import Iterable

from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.keys import Key

__all__ = ["References", "references_of"]


class References:
    """A directed graph of keys with its reverse."""

    def __init__(self) -> None:
        self._to: dict[Key, frozenset[Key]] = {}
        self._from: dict[Key, set[Key]] = {}

    def update(self, key: Key, targets: Iterable[Key]) -> frozenset[Key]:
        """Set what `key` refers to; the result is every target that it refers to now or did before."""
        new = frozenset(targets)
        old = self._to.pop(key, frozenset())
        if new:
            self._to[key] = new
        for target in old - new:
            self._from[target].discard(key)
            if not self._from[target]:
                del self._from[target]
        for target in new - old:
            self._from.setdefault(target, set()).add(key)
        return old | new

    def remove(self, key: Key) -> frozenset[Key]:
        """Forget what `key` refers to; the result is what it referred to."""
        return self.update(key, ())

    def targets(self, key: Key) -> frozenset[Key]:
        """What `key` refers to."""
        return self._to.get(key, frozenset())

    def referrers(self, key: Key) -> list[Key]:
        """What refers to `key`, in the order of keys."""
        return sorted(self._from.get(key, ()))


def references_of(key: Key, obj: Manifest) -> frozenset[Key]:
    """What an object refers to. Tolerates any shape: the object may not fit our types at all."""
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return frozenset()
    if key.kind == "AgenticServingStack":
        name = _name(spec.get("kvTierPolicyRef"))
        return frozenset([Key("KVTierPolicy", key.namespace, name)] if name else [])
    if key.kind == "AgentProgram":
        agents = spec.get("agents")
        refs = (
            [_name(a.get("stackRef")) for a in agents if isinstance(a, dict)]
            if isinstance(agents, list)
            else []
        )
        return frozenset(Key("AgenticServingStack", key.namespace, name) for name in refs if name)
    return frozenset()


def _name(reference: object) -> str:
    name = reference.get("name") if isinstance(reference, dict) else None
    return name if isinstance(name, str) else ""
