"""What the operator must be allowed to do with rendered objects: its RBAC is generated from this.

A test renders every example and compares: what is emitted and not listed here would be refused by the API
server, and what is listed and never emitted would be a right too many.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from agentic_serving.cluster import kinds
from agentic_serving.cluster.port import Kind
from agentic_serving.render.picker import picker_rbac
from agentic_serving.render.releases import load_release, release_names
from agentic_serving.render.scheduler import LEASES

__all__ = ["EMITTED_KINDS", "Access", "emitted", "granted"]

#: Server-side apply needs create and patch; informers and pruning need the rest.
_WRITE = ("create", "delete", "get", "list", "patch", "watch")

EMITTED_KINDS: tuple[Kind, ...] = (
    kinds.SERVICE_ACCOUNT,
    kinds.ROLE,
    kinds.ROLE_BINDING,
    kinds.CONFIG_MAP,
    kinds.SERVICE,
    kinds.NETWORK_POLICY,
    kinds.POD_DISRUPTION_BUDGET,
    kinds.INFERENCE_POOL,
    kinds.DEPLOYMENT,
    kinds.LLMD_INFERENCE_OBJECTIVE,
    kinds.GIE_INFERENCE_OBJECTIVE,
    kinds.HTTP_ROUTE,
    kinds.POD_MONITOR,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One entry of an RBAC role."""

    group: str
    resource: str
    verbs: tuple[str, ...]


def emitted() -> tuple[Access, ...]:
    """Rights on the kinds that `render()` can emit, sorted."""
    found = {(kind.group, kind.plural) for kind in EMITTED_KINDS}
    return tuple(Access(group=group, resource=plural, verbs=_WRITE) for group, plural in sorted(found))


def granted() -> tuple[Access, ...]:
    """Rights that rendered Roles grant. The API server lets nobody grant what they do not hold."""
    verbs: dict[tuple[str, str], set[str]] = {}
    for group, resource, allowed in _grants():
        verbs.setdefault((group, resource), set()).update(allowed)
    return tuple(
        Access(group=group, resource=resource, verbs=tuple(sorted(allowed)))
        for (group, resource), allowed in sorted(verbs.items())
    )


def _grants() -> Iterator[tuple[str, str, list[str]]]:
    yield LEASES, "leases", ["create", "get", "patch", "update"]
    for name in release_names():
        for rule in picker_rbac(load_release(name)):
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    yield group, resource, rule["verbs"]
