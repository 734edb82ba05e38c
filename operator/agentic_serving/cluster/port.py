"""The port to the Kubernetes API: what the operator asks of a cluster, in plain JSON values.

Objects are dicts exactly as the API serves them; there are no model classes in between. Errors are those of
`agentic_serving.errors`; nothing is retried here (the controller's queue retries).
"""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from urllib.parse import quote

__all__ = ["Cluster", "Happened", "Kind", "Listing", "Manifest", "Seen"]

#: A Kubernetes object as JSON values.
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object and where the API serves it."""

    group: str  # "" is the core group
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As manifests write it: `apps/v1`, `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def gvk(self) -> tuple[str, str, str]:
        return (self.group, self.version, self.kind)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def collection_path(self, namespace: str | None) -> str:
        """Path of all objects, in one namespace or (None) in all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        if self.namespaced and namespace is not None:
            return f"{root}/namespaces/{quote(namespace, safe='')}/{self.plural}"
        return f"{root}/{self.plural}"

    def object_path(self, namespace: str | None, name: str, subresource: str = "") -> str:
        path = f"{self.collection_path(namespace)}/{quote(name, safe='')}"
        return f"{path}/{subresource}" if subresource else path


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects of one kind, and the version of the whole collection that they were read at."""

    items: list[Manifest]  # each with its apiVersion and kind
    resource_version: str


#: BOOKMARK tells a resource version only: the watch has seen everything up to it.
Happened = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of a watch."""

    happened: Happened
    object: Manifest

    @property
    def resource_version(self) -> str:
        """Where a later watch goes on from."""
        return str((self.object.get("metadata") or {}).get("resourceVersion") or "")


class Cluster(Protocol):
    """The Kubernetes API. Every method may raise any `ClusterError`; those named are part of its meaning.

    `metadata.uid` and `metadata.resourceVersion` in a manifest are preconditions: where they differ from the
    live object, `apply` and `apply_status` raise Conflict and change nothing.
    """

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        """One object.

        Raises:
            NotFound: with reason `NotFound` the object is not there; with an empty reason the kind is not served.
        """
        ...

    def pages(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = ""
    ) -> AsyncIterator[Listing]:
        """One consistent list in pages of bounded size, each with the list's resource version.

        Raises:
            Expired: reading took longer than the API server keeps versions (about 5 minutes); start again.
        """
        ...

    async def list(self, kind: Kind, namespace: str | None = None, *, label_selector: str = "") -> Listing:
        """All pages at once; starts again by itself where they expired. For small collections."""
        ...

    def watch(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", resource_version: str
    ) -> AsyncGenerator[Seen, None]:
        """What happened to a collection since a version of it; ends after some minutes, go on from the last event.

        An object whose labels cease to fit is DELETED, one whose labels begin to is ADDED. `cluster.following` lists and
        watches for as long as one likes.

        Raises:
            Expired: the version is too old; list again.
        """
        ...

    async def apply(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Server-side apply under the operator's field manager, forced; creates what is not there.

        Raises:
            Conflict: a precondition in `metadata` does not hold.
            Rejected: the API server refuses the object, be it for one field that its schema does not know.
        """
        ...

    async def apply_status(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Server-side apply of the status subresource.

        Raises:
            Rejected: as for `apply`; so a CRD must be upgraded before an operator that reports more.
            NotFound: the object is gone.
            Conflict: a precondition in `metadata` does not hold.
        """
        ...

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create, never overwrite: for Events and for the first Lease.

        Raises:
            Conflict: with reason `AlreadyExists`.
        """
        ...

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str,
        resource_version: str = "",
        propagation: str = "Background",
    ) -> None:
        """Delete this very object, not a later one of the same name.

        Raises:
            NotFound: it is gone already.
            Conflict: the live object has another uid or resource version.
        """
        ...

    async def served(self) -> frozenset[tuple[str, str, str]]:
        """Every (group, version, kind) that the API server serves now."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
