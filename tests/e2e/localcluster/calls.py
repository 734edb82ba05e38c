"""What a Kubernetes API request asks for, read from its method and path. Pure.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ (resource URIs, verbs).
"""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

__all__ = ["WRITE_VERBS", "Call", "Matcher", "matching", "parse_call"]

WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, in the words of RBAC and of the audit log."""

    verb: str  # get, list, watch, create, update, patch, delete, deletecollection
    group: str  # API group; empty for core and for paths that are no resource
    version: str
    resource: str  # plural; empty for paths such as /readyz or /apis
    subresource: str
    namespace: str
    name: str
    uri: str
    user_agent: str = ""

    @property
    def is_write(self) -> bool:
        return self.verb in WRITE_VERBS

    def __str__(self) -> str:
        what = "/".join(part for part in (self.resource, self.subresource) if part)
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.verb} {what or self.uri} {where}".rstrip()


Matcher = Callable[[Call], bool]


def parse_call(method: str, uri: str, user_agent: str = "") -> Call:
    """Describe a request line."""
    address = urlsplit(uri)
    parts = [part for part in address.path.split("/") if part]
    group, version, rest = _group_version(parts)
    namespace, resource, name, subresource = _target(rest)
    query = parse_qs(address.query)
    watching = query.get("watch", ["false"])[0] in ("true", "1")
    return Call(
        verb=_verb(method, named=bool(name), watching=watching),
        group=group,
        version=version,
        resource=resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
        uri=uri,
        user_agent=user_agent,
    )


def matching(
    *,
    verb: str | None = None,
    resource: str | None = None,
    subresource: str | None = None,
    name: str | None = None,
    namespace: str | None = None,
    writes_only: bool = False,
    aside: tuple[str, ...] = ("leases", "events"),
) -> Matcher:
    """A matcher for calls on resources: every given word must be equal.

    Args:
        subresource: "" matches only calls on the object itself; None matches both.
        aside: plurals never matched unless `resource` names them; heartbeats would shift every index.
    """
    wanted = {
        "verb": verb, "resource": resource, "subresource": subresource, "name": name, "namespace": namespace,
    }  # fmt: skip
    given = {field: value for field, value in wanted.items() if value is not None}

    def matches(call: Call) -> bool:
        if not call.resource or (call.resource in aside and call.resource != resource):
            return False
        if writes_only and not call.is_write:
            return False
        return all(getattr(call, field) == value for field, value in given.items())

    return matches


def _group_version(parts: list[str]) -> tuple[str, str, list[str]]:
    if len(parts) >= 2 and parts[0] == "api":
        return "", parts[1], parts[2:]
    if len(parts) >= 3 and parts[0] == "apis":
        return parts[1], parts[2], parts[3:]
    return "", "", []


def _target(rest: list[str]) -> tuple[str, str, str, str]:
    """(namespace, resource, name, subresource) from what follows the group and version."""
    namespace = ""
    # /namespaces/NS and /namespaces/NS/{status,finalize} are about the Namespace itself.
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    elif len(rest) >= 2 and rest[0] == "namespaces":
        namespace = rest[1]
    resource, name, *below = [*rest, "", ""][: max(2, len(rest))]
    return namespace, resource, name, "/".join(part for part in below if part)


def _verb(method: str, *, named: bool, watching: bool) -> str:
    if method in ("GET", "HEAD"):
        return "watch" if watching else "get" if named else "list"
    if method == "DELETE" and not named:
        return "deletecollection"
    return _VERBS.get(method, method.lower())
