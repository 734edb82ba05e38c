"""The API server's audit log: who asked for what, with which answer. Pure parsing.

Source: https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/ (audit.k8s.io/v1).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["POLICY", "AuditEntry", "parse", "writes"]

# One entry per request, when it is answered; a watch has one when it starts and one when it ends.
POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}

_WRITE_VERBS = frozenset({"create", "update", "patch", "delete", "deletecollection"})

# Created to ask a question; nothing is stored.
_QUESTION_GROUPS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})
_QUESTION_SUBRESOURCES = frozenset({"token"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One answered request."""

    verb: str  # get, list, watch, create, update, patch, delete, deletecollection
    user: str
    user_agent: str
    group: str  # API group; empty for core
    version: str
    resource: str  # plural; empty for paths such as /readyz
    subresource: str
    namespace: str
    name: str
    code: int  # HTTP status; 0 where the log has none
    uri: str
    stage: str  # ResponseStarted, ResponseComplete, Panic
    received_s: float  # Unix time the request arrived
    answered_s: float  # Unix time of this stage

    @property
    def dry_run(self) -> bool:
        return "dryRun" in parse_qs(urlsplit(self.uri).query)

    @property
    def is_write(self) -> bool:
        """Whether it asked the server to store something."""
        if self.verb not in _WRITE_VERBS or self.stage != "ResponseComplete" or self.dry_run:
            return False
        return self.group not in _QUESTION_GROUPS and self.subresource not in _QUESTION_SUBRESOURCES

    def __str__(self) -> str:
        what = "/".join(part for part in (self.resource, self.subresource) if part)
        where = "/".join(part for part in (self.namespace, self.name) if part)
        return f"{self.verb} {what} {where} -> {self.code} ({self.user})"


def parse(lines: Iterable[str]) -> list[AuditEntry]:
    """Entries in the order of the log."""
    return [_entry(json.loads(line)) for line in lines if line.strip()]


def writes(
    entries: Iterable[AuditEntry],
    *,
    user: str | None = None,
    resource: str | None = None,
    aside: Iterable[str] = ("leases", "events"),
) -> list[AuditEntry]:
    """The writes among them, refused ones too.

    Args:
        user: only this user's, e.g. `system:serviceaccount:NAMESPACE:NAME`.
        resource: only of this plural.
        aside: plurals left out; heartbeats and Events are no sign of a restless controller.
    """
    left_out = frozenset(aside)
    return [
        e
        for e in entries
        if e.is_write
        and e.resource not in left_out
        and (user is None or e.user == user)
        and (resource is None or e.resource == resource)
    ]


def _entry(raw: dict[str, Any]) -> AuditEntry:
    target = raw.get("objectRef", {})
    return AuditEntry(
        verb=raw["verb"],
        user=raw.get("user", {}).get("username", ""),
        user_agent=raw.get("userAgent", ""),
        group=target.get("apiGroup", ""),
        version=target.get("apiVersion", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", ""),
        code=raw.get("responseStatus", {}).get("code", 0),
        uri=raw.get("requestURI", ""),
        stage=raw["stage"],
        received_s=_unix(raw["requestReceivedTimestamp"]),
        answered_s=_unix(raw["stageTimestamp"]),
    )


def _unix(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
