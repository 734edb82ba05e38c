"""Rendered objects: their identity, hash, labels and owner.

Children carry our labels only. A parent's labels and annotations stay with the parent: Argo CD tracks
by `app.kubernetes.io/instance`, and a child that copies it is pruned as a stranger.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentic_serving import names
from agentic_serving.api.base import ObjectMeta
from agentic_serving.api.rules import Rule

__all__ = ["Manifest", "Owner", "canonical_hash"]


def canonical_hash(value: object, *, length: int = 16) -> str:
    """Hexadecimal digits that are equal for equal JSON values, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One Kubernetes object and the rules that made it.

    Attributes:
        body: the object as plain JSON values; nobody may change it.
        rules: why the object exists and why it is as it is; `explain` prints them.
        items: single options and variables in it, each with its rule.
    """

    body: Mapping[str, Any]
    rules: tuple[Rule, ...] = ()
    items: tuple[tuple[str, Rule], ...] = ()

    @property
    def key(self) -> tuple[str, str, str]:
        """(apiVersion, kind, name): unique in a plan, whose objects share one namespace."""
        return self.body["apiVersion"], self.body["kind"], self.body["metadata"]["name"]

    @property
    def hash(self) -> str:
        """16 hexadecimal digits, equal for equal bodies."""
        return canonical_hash(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The stack as the owner of its children."""

    name: str
    namespace: str
    uid: str

    @classmethod
    def of(cls, metadata: ObjectMeta) -> "Owner":
        return cls(name=metadata.name, namespace=metadata.namespace, uid=metadata.uid)

    def child(self, suffix: str) -> str:
        """Name of a child; short enough for its pods' names."""
        return names.child_name(self.name, suffix)

    def selector(self, component: str, role: str | None = None) -> dict[str, str]:
        """Labels by which pods of one component are found. Never changed: a Deployment's selector is immutable."""
        labels = {names.STACK_LABEL: names.label_value(self.name), names.COMPONENT_LABEL: component}
        return labels | ({names.ROLE_LABEL: role} if role else {})

    def labels(self, component: str, role: str | None = None) -> dict[str, str]:
        """All labels of ours on a child or a pod."""
        labels = {
            names.NAME_LABEL: names.MANAGED_BY_VALUE,
            names.MANAGED_BY_LABEL: names.MANAGED_BY_VALUE,
            **self.selector(component, role),
        }
        return labels | ({names.OWNER_UID_LABEL: self.uid} if self.uid else {})

    def metadata(self, name: str, component: str, role: str | None = None) -> dict[str, Any]:
        """`metadata` of a child. Without the owner's UID (not from a cluster) there is no owner reference."""
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": self.namespace,
            "labels": self.labels(component, role),
        }
        if self.uid:
            metadata["ownerReferences"] = [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": "AgenticServingStack",
                    "name": self.name,
                    "uid": self.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ]
        return metadata
