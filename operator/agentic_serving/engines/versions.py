"""Which table serves which engine version.

A version without a table uses the nearest older one, with a warning: options are added far more often than
removed, and refusing every new release would keep users from security fixes. A version older than every table is
refused: nothing is known of what it lacks.
"""

import re
from dataclasses import dataclass

from agentic_serving.api.findings import Finding
from agentic_serving.engines.tables import EngineTable, VersionTable, load_vllm

__all__ = ["PATH", "ResolvedVersion", "known_versions", "resolve"]

PATH = "spec.engine.version"
# A release, with a pre-release mark, a local build (+cu130) or both: 0.33.0, 0.33.0rc1, 0.33.0+cpu.
_VERSION = re.compile(r"([0-9]+)\.([0-9]+)\.([0-9]+)([a-z.\-][a-z0-9.\-]*)?(\+[a-z0-9.]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedVersion:
    """A version and the table that serves it; None if none does."""

    version: str
    table: VersionTable | None
    findings: tuple[Finding, ...] = ()


def known_versions(engine: EngineTable | None = None) -> tuple[str, ...]:
    """Versions with a table of their own, oldest first."""
    return tuple(table.version for table in (engine or load_vllm()).versions)


def resolve(version: str, engine: EngineTable | None = None) -> ResolvedVersion:
    """The table for `version`, and what the user should know about the choice."""
    engine = engine or load_vllm()
    match = _VERSION.fullmatch(version)
    if match is None:
        return _refused(version, "is not a version such as 0.33.0")
    wanted = tuple(int(part) for part in match.groups()[:3])
    older = [table for table in engine.versions if _numbers(table) <= wanted]
    if not older:
        return _refused(version, f"is older than every known version ({', '.join(known_versions(engine))})")
    table = older[-1]
    if _numbers(table) == wanted and match.group(4) is None:
        return ResolvedVersion(version=version, table=table)
    warning = Finding(
        path=PATH,
        reason="UnknownEngineVersion",
        message=f"version {version} is not known: options and abilities of {table.version} are assumed",
        severity="Warning",
    )
    return ResolvedVersion(version=version, table=table, findings=(warning,))


def _numbers(table: VersionTable) -> tuple[int, ...]:
    return tuple(int(part) for part in table.version.split("."))


def _refused(version: str, why: str) -> ResolvedVersion:
    message = f"version {version} {why}: use one of {', '.join(known_versions())}, or a newer one"
    finding = Finding(path=PATH, reason="EngineVersionUnsupported", message=message)
    return ResolvedVersion(version=version, table=None, findings=(finding,))
