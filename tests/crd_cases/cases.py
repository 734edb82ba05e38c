"""The table of good and bad objects (`*.yaml` beside this file), for the unit tests and for the real API server."""

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["BAD", "GOOD", "BadCase", "GoodCase", "change"]

_FOLDER = Path(__file__).parent
_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoodCase:
    """An object that is accepted everywhere."""

    name: str
    kind: str
    obj: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadCase(GoodCase):
    """An object that is refused.

    Attributes:
        findings: our errors, path to message: all of them.
        server: texts that the API server's refusal must contain; empty where it accepts the object.
    """

    findings: dict[str, str]
    server: tuple[str, ...]


def change(base: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """The base with the case's `set` and `unset` carried out."""
    obj = copy.deepcopy(base)
    for path, value in case.get("set", {}).items():
        _put(obj, path, value)
    for path in case.get("unset", ()):
        *parents, last = _parts(path)
        _at(obj, parents).pop(last)
    return obj


def _parts(path: str) -> list[str | int]:
    return [int(index) if index else name for name, index in _PART.findall(path)]


def _at(obj: Any, parts: list[str | int]) -> Any:  # noqa: ANN401 - any JSON value
    for part in parts:
        obj = obj[part] if isinstance(part, int) else obj.setdefault(part, {})
    return obj


def _put(obj: dict[str, Any], path: str, value: object) -> None:
    *parents, last = _parts(path)
    _at(obj, parents)[last] = copy.deepcopy(value)


def _load() -> tuple[list[GoodCase], list[BadCase]]:
    good: list[GoodCase] = []
    bad: list[BadCase] = []
    for path in sorted(_FOLDER.glob("*.yaml")):
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        kind, base = table["kind"], table["base"]
        good.append(GoodCase(name=f"{kind}: the base", kind=kind, obj=base))
        for name, case in table["good"].items():
            good.append(GoodCase(name=f"{kind}: {name}", kind=kind, obj=change(base, case)))
        for name, case in table["bad"].items():
            findings = case["findings"]
            server = case.get("server", list(findings.values()))
            texts = tuple([server] if isinstance(server, str) else server or ())
            obj = change(base, case)
            bad.append(BadCase(name=f"{kind}: {name}", kind=kind, obj=obj, findings=findings, server=texts))
    return good, bad


GOOD, BAD = _load()
