"""The engine tables under `templates/engines/`: read once, checked, and indexed by every spelling."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from agentic_serving.assets import templates_dir
from agentic_serving.errors import Bug

__all__ = ["EngineTable", "Family", "KnownOption", "VersionTable", "load_vllm"]

Takes = Literal["value", "switch", "list", "optional"]


class _File(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True
    )


class KnownOption(_File):
    """An option as the engine's own parser declares it."""

    names: list[str]  # all spellings, the canonical one first
    takes: Takes
    choices: list[str] | None = None
    repeats: bool = False  # each occurrence adds; else the last one wins
    # It takes a JSON object, also as dotted parts: --kv-transfer-config.kv_role=kv_both.
    is_json: Annotated[bool, Field(alias="json")] = False

    @property
    def name(self) -> str:
        """The canonical spelling."""
        return next((n for n in self.names if n.startswith("--")), self.names[0])


class _OptionsFile(_File):
    engine: str
    version: str
    source: str
    options: list[KnownOption]


class Family(_File):
    """The parsers that a family of models needs."""

    pattern: str  # regular expression on the name's last path segment in lower case
    tool: str
    reasoning: str | None = None
    source: Annotated[str, Field(min_length=12)]

    def matches(self, name: str) -> bool:
        return re.search(self.pattern, name.rsplit("/", 1)[-1].lower()) is not None


class _VersionEntry(_File):
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
    options: str
    tool_parsers: list[str]
    reasoning_parsers: list[str]
    connectors: dict[str, list[str]]
    packages: dict[str, list[str]]
    max_num_seqs: dict[str, int]


class _EngineFile(_File):
    default: str
    versions: list[_VersionEntry]
    families: list[Family]
    adopted: list[str]
    owned: dict[str, str]
    owned_environment: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionTable:
    """What one version of an engine understands."""

    version: str
    options: Mapping[str, KnownOption]  # by every spelling
    tool_parsers: tuple[str, ...]
    reasoning_parsers: tuple[str, ...]
    connectors: Mapping[str, tuple[str, ...]]  # name → keys of kv_connector_extra_config
    packages: Mapping[str, tuple[str, ...]]  # image variant → connector packages in the default image
    max_num_seqs: Mapping[str, int]  # image variant → requests at once


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineTable:
    """All that is known of an engine."""

    default_version: str
    versions: tuple[VersionTable, ...]  # oldest first
    families: tuple[Family, ...]
    adopted: frozenset[str]
    owned: Mapping[str, str]  # option, or prefix with `*` → what to do instead
    owned_environment: Mapping[str, str]

    def family(self, *names: str) -> Family | None:
        """The first family that one of the names belongs to; earlier names count first."""
        return next((f for name in names for f in self.families if f.matches(name)), None)


@cache
def load_vllm() -> EngineTable:
    """vLLM's tables.

    Raises:
        Bug: a table that ships with the package is not as it should be.
    """
    folder = templates_dir() / "engines"
    try:
        file = _EngineFile.model_validate(yaml.safe_load((folder / "vllm.yaml").read_text(encoding="utf-8")))
        versions = [_version(folder, entry) for entry in file.versions]
    except (yaml.YAMLError, json.JSONDecodeError, ValidationError, OSError) as error:
        raise Bug(f"templates/engines is not readable: {error}") from error
    return EngineTable(
        default_version=file.default,
        versions=tuple(sorted(versions, key=lambda table: _triple(table.version))),
        families=tuple(file.families),
        adopted=frozenset(file.adopted),
        owned=file.owned,
        owned_environment=file.owned_environment,
    )


def _triple(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _version(folder: Path, entry: _VersionEntry) -> VersionTable:
    text = (folder / entry.options).read_text(encoding="utf-8")
    file = _OptionsFile.model_validate(json.loads(text))
    return VersionTable(
        version=entry.version,
        options={name: option for option in file.options for name in option.names},
        tool_parsers=tuple(entry.tool_parsers),
        reasoning_parsers=tuple(entry.reasoning_parsers),
        connectors={name: tuple(keys) for name, keys in entry.connectors.items()},
        packages={variant: tuple(names) for variant, names in entry.packages.items()},
        max_num_seqs=entry.max_num_seqs,
    )
