"""The table of known models (`templates/models/*.yaml`).

Each file records the fields of the model's `config.json` that decide the cache; the profile is derived from them
by the code that inspects a user's model, so table and tool cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from agentic_serving.assets import templates_dir
from agentic_serving.capacity.datafile import FileModel, Source, SourcedCount, read_folder
from agentic_serving.capacity.inspect import CannotTell, inspect_config
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.errors import InvalidInput

__all__ = ["ModelTable", "find_model", "load_models", "read_table"]

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=200)]


class _ModelFile(FileModel):
    name: _Name
    aliases: tuple[_Name, ...] = Field(default=(), strict=False)
    config: Annotated[dict[str, Any], Field(min_length=1)]
    config_source: Source
    kv_bytes_per_token: Annotated[int, Field(ge=0)]  # for the reader; must agree with what `config` gives
    weight_bytes: SourcedCount | None = None


@dataclass(frozen=True, slots=True)
class ModelTable:
    """The contents of one folder of model files."""

    profiles: Mapping[str, ModelProfile]
    names: Mapping[str, str]  # lower-case name or alias → key of profiles


def load_models(*, kv_element_bytes: int = 2) -> Mapping[str, ModelProfile]:
    """All known models by their Hugging Face repository names."""
    return read_table(templates_dir() / "models", kv_element_bytes).profiles


def find_model(name: str, *, kv_element_bytes: int = 2) -> ModelProfile | None:
    """The model of that repository name or alias, in any case; None where the table has none."""
    table = read_table(templates_dir() / "models", kv_element_bytes)
    key = table.names.get(name.lower())
    return None if key is None else table.profiles[key]


@cache
def read_table(folder: Path, kv_element_bytes: int = 2) -> ModelTable:
    """The models of a folder at one size of cache elements.

    Raises:
        InvalidInput: a file is wrong; the field is its name.
    """
    profiles: dict[str, ModelProfile] = {}
    names: dict[str, str] = {}
    for path, data in read_folder(folder, _ModelFile):
        profiles[data.name] = _profile(path.name, data, kv_element_bytes)
        for name in (data.name, *data.aliases):
            if name.lower() in names:
                raise InvalidInput(path.name, f"names {name!r}, which another file names too")
            names[name.lower()] = data.name
    return ModelTable(MappingProxyType(profiles), MappingProxyType(names))


def _profile(file: str, data: _ModelFile, kv_element_bytes: int) -> ModelProfile:
    at_two_bytes = inspect_config(data.config, name=data.name)
    if isinstance(at_two_bytes, CannotTell):
        raise InvalidInput(file, at_two_bytes.reason)
    if at_two_bytes.kv_bytes_per_token != data.kv_bytes_per_token:
        raise InvalidInput(
            file,
            f"says kvBytesPerToken {data.kv_bytes_per_token}, but its config gives "
            f"{at_two_bytes.kv_bytes_per_token}",
        )
    derived = inspect_config(data.config, kv_element_bytes=kv_element_bytes, name=data.name)
    if isinstance(derived, CannotTell):  # cannot happen: it could tell at two bytes
        raise InvalidInput(file, derived.reason)
    weights = data.weight_bytes
    sources = (f"config: {data.config_source}",) + ((f"weights: {weights.source}",) if weights else ())
    return replace(derived, weight_bytes=weights.value if weights else None, sources=sources)
