"""The table of accelerators (`templates/accelerators/*.yaml`): what a device is and what an engine needs on it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, model_validator

from agentic_serving.assets import templates_dir
from agentic_serving.capacity.datafile import FileModel, Source, SourcedCount, read_folder
from agentic_serving.errors import InvalidInput

__all__ = [
    "Accelerator",
    "EngineVariant",
    "Setting",
    "Toleration",
    "Vendor",
    "find_accelerator",
    "load_accelerators",
]

Vendor = Literal["NVIDIA", "AMD", "CPU"]
#: Which build of an engine's image runs on it; a key of the engines' image table.
EngineVariant = Literal["cuda", "rocm", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One environment variable or option that engines need on this accelerator, and why."""

    name: str  # VLLM_CPU_KVCACHE_SPACE or --dtype
    value: str  # empty for an option without a value
    reason: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Toleration:
    """A taint that nodes with this accelerator usually carry."""

    key: str
    operator: str = "Exists"
    effect: str = ""
    value: str = ""

    def to_dict(self) -> dict[str, str]:
        fields = {"key": self.key, "operator": self.operator, "value": self.value, "effect": self.effect}
        return {name: text for name, text in fields.items() if text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """A kind of device, or of node without devices. Adjust one with `dataclasses.replace`."""

    name: str
    vendor: Vendor
    description: str
    engine_variant: EngineVariant
    shared_memory_bytes: int  # of /dev/shm per engine pod, before any offload tier is added
    resource_name: str | None = None  # extended resource of one device; None: no devices
    devices_per_node: int | None = None
    memory_bytes: int | None = None  # of one device, as the engine sees it
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    env: tuple[Setting, ...] = ()
    args: tuple[Setting, ...] = ()
    cpu_request: str | None = None  # a Kubernetes quantity; only without devices
    memory_request: str | None = None
    kv_cache_bytes: int | None = None  # of one rank, where the engine is told its size; only without devices
    hbm_bytes_per_s: int | None = None
    bf16_flops_per_s: int | None = None  # dense
    sources: Mapping[str, str] = field(default_factory=dict)  # field of this class → where it was read


class _NodeSelector(FileModel):
    labels: dict[str, str]
    source: Source


class _Toleration(FileModel):
    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "NoExecute", "PreferNoSchedule"] = ""
    source: Source


class _Setting(FileModel):
    name: Annotated[str, Field(pattern=r"^(--[a-z0-9-]+|[A-Z][A-Z0-9_]*)$")]
    value: str = ""
    reason: Annotated[str, Field(min_length=10)]
    source: Source


class _Quantity(FileModel):
    value: Annotated[str, Field(pattern=r"^[0-9]+(m|Ki|Mi|Gi|Ti)?$")]
    source: Source


class _AcceleratorFile(FileModel):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    vendor: Vendor
    description: Annotated[str, Field(min_length=10)]
    engine_variant: EngineVariant
    shared_memory_bytes: SourcedCount
    resource_name: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$")] | None = None
    devices_per_node: SourcedCount | None = None
    memory_bytes: SourcedCount | None = None
    node_selector: _NodeSelector | None = None
    tolerations: tuple[_Toleration, ...] = Field(default=(), strict=False)
    env: tuple[_Setting, ...] = Field(default=(), strict=False)
    args: tuple[_Setting, ...] = Field(default=(), strict=False)
    cpu_request: _Quantity | None = None
    memory_request: _Quantity | None = None
    kv_cache_bytes: SourcedCount | None = None
    hbm_bytes_per_s: SourcedCount | None = None
    bf16_flops_per_s: SourcedCount | None = None

    @model_validator(mode="after")
    def _devices_or_host(self) -> "_AcceleratorFile":
        devices = (self.resource_name, self.devices_per_node, self.memory_bytes)
        host = (self.cpu_request, self.memory_request, self.kv_cache_bytes)
        wanted, unwanted = (host, devices) if self.vendor == "CPU" else (devices, host)
        if None in wanted or any(value is not None for value in unwanted):
            raise ValueError(
                "CPU takes cpuRequest, memoryRequest and kvCacheBytes; others take resourceName, "
                "devicesPerNode and memoryBytes"
            )
        return self


@cache
def load_accelerators(folder: Path | None = None) -> Mapping[str, Accelerator]:
    """All presets by name, in the order of names.

    Raises:
        InvalidInput: a file is wrong; the field is its name.
    """
    found: dict[str, Accelerator] = {}
    for path, data in read_folder(folder or templates_dir() / "accelerators", _AcceleratorFile):
        if data.name != path.stem:
            raise InvalidInput(path.name, f"holds the preset {data.name!r}; the file must have its name")
        found[data.name] = _accelerator(data)
    return MappingProxyType(found)


def find_accelerator(name: str, *, field: str = "spec.accelerator.preset") -> Accelerator:
    """The preset called `name`.

    Raises:
        InvalidInput: there is none; the message lists those there are and the nearest.
    """
    presets = load_accelerators()
    if name in presets:
        return presets[name]
    near = difflib.get_close_matches(name, presets, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InvalidInput(field, f"there is no preset {name!r}; use one of {', '.join(presets)}{hint}")


def _accelerator(data: _AcceleratorFile) -> Accelerator:
    return Accelerator(
        name=data.name,
        vendor=data.vendor,
        description=data.description,
        engine_variant=data.engine_variant,
        shared_memory_bytes=data.shared_memory_bytes.value,
        resource_name=data.resource_name,
        devices_per_node=_value(data.devices_per_node),
        memory_bytes=_value(data.memory_bytes),
        node_selector=MappingProxyType(dict(data.node_selector.labels) if data.node_selector else {}),
        tolerations=tuple(Toleration(**item.model_dump(exclude={"source"})) for item in data.tolerations),
        env=tuple(Setting(**item.model_dump()) for item in data.env),
        args=tuple(Setting(**item.model_dump()) for item in data.args),
        cpu_request=data.cpu_request.value if data.cpu_request else None,
        memory_request=data.memory_request.value if data.memory_request else None,
        kv_cache_bytes=_value(data.kv_cache_bytes),
        hbm_bytes_per_s=_value(data.hbm_bytes_per_s),
        bf16_flops_per_s=_value(data.bf16_flops_per_s),
        sources=MappingProxyType(_sources(data)),
    )


def _value(number: SourcedCount | None) -> int | None:
    return None if number is None else number.value


def _sources(data: _AcceleratorFile) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in type(data).model_fields:
        source = getattr(getattr(data, name), "source", None)
        if isinstance(source, str):
            found[name] = source
    return found
