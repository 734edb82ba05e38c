"""The engine of a stack and what it runs on."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agentic_serving.api.base import ApiModel, CelRule, DnsLabel, QuantityString
from agentic_serving.api.model import ImageReference, KeySelector

__all__ = [
    "Accelerator",
    "AcceleratorOverrides",
    "Engine",
    "EnvVar",
    "LabelMap",
    "Toleration",
]

LabelMap = Annotated[
    dict[Annotated[str, Field(max_length=317)], Annotated[str, Field(max_length=63)]], Field(max_length=32)
]


class EnvVar(ApiModel):
    """An environment variable: a value, or a key of a Secret."""

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    """Name of the variable."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value."""
    secret_key_ref: KeySelector | None = None
    """The Secret's key that holds its value."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="has(self.value) != has(self.secretKeyRef)",
            holds=lambda self: (self.value is None) != (self.secret_key_ref is None),
            message="set exactly one of value and secretKeyRef",
        ),
    )


class Engine(ApiModel):
    """The inference engine."""

    type: Literal["vLLM"] = "vLLM"
    """Which engine."""
    version: (
        Annotated[str, Field(max_length=32, pattern=r"^[0-9]+\.[0-9]+\.[0-9]+([a-z.+\-][a-z0-9.+\-]*)?$")]
        | None
    ) = None
    """Version of the engine; the operator's default for the engine without it. Options are chosen by it."""
    image: ImageReference | None = None
    """Image to run instead of the default; say its `version` too, since it cannot be read from the image."""
    args: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...], Field(max_length=64)
    ] = ()
    """Further command-line arguments, as `--name=value` or `--name`. Those that the operator generates are refused."""
    env: Annotated[
        tuple[EnvVar, ...],
        Field(
            max_length=64,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()
    """Further environment variables. Those that the operator generates are refused."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="!has(self.image) || has(self.version)",
            holds=lambda self: self.image is None or self.version is not None,
            message="an image needs its engine version beside it: set engine.version to the version that the image contains",
            field_path=".image",
        ),
    )


class Toleration(ApiModel):
    """A taint that engine pods tolerate, as in a pod's spec."""

    key: Annotated[str, Field(max_length=317)] | None = None
    """Key of the taint; all taints if it is left out with operator `Exists`."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """How the value is compared."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; all effects if it is left out."""


class AcceleratorOverrides(ApiModel):
    """What differs here from the preset."""

    resource_name: (
        Annotated[str, Field(max_length=317, pattern=r"^[A-Za-z0-9.\-]+/[A-Za-z0-9._\-]+$")] | None
    ) = None
    """Extended resource of a device, such as `nvidia.com/mig-3g.71gb`."""
    memory: QuantityString | None = None
    """Memory of one device; capacity and fit are computed from it."""
    node_selector: LabelMap | None = None
    """Node labels, instead of the preset's."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] | None = None
    """Tolerations, instead of the preset's."""
    cpu: Annotated[str, Field(max_length=16, pattern=r"^[1-9][0-9]{0,5}m?$")] | None = None
    """CPU that each engine pod requests."""
    host_memory: QuantityString | None = None
    """Memory that each engine pod requests and is limited to, before KV tiers are added."""


class Accelerator(ApiModel):
    """What the engine runs on."""

    preset: DnsLabel
    """Name of a preset, such as `nvidia-h200`; `agentic-serving explain presets` lists them."""
    overrides: AcceleratorOverrides = AcceleratorOverrides()
    """What differs here from the preset."""
