"""The table of default images (`templates/images.yaml`)."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from agentic_serving.assets import templates_dir
from agentic_serving.errors import Bug

__all__ = ["image"]


class _Image(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image: Annotated[str, Field(pattern=r"^[a-z0-9.]+(/[a-z0-9._-]+)+:[A-Za-z0-9._{}-]+$")]
    source: Annotated[str, Field(min_length=12)]


@cache
def _images() -> Mapping[str, Mapping[str, _Image]]:
    path = templates_dir() / "images.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, dict[str, _Image]]).validate_python(data)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise Bug(f"{path.name} is not readable: {error}") from error


def image(component: str, variant: str = "default", *, version: str = "") -> str:
    """The default image of a component: `vllm` (cuda, rocm, cpu), `tokenizer` (cpu), `envoy` and `scheduler` (default).

    Raises:
        Bug: the table has no such component or variant, or the image needs a version and none is given.
    """
    entry = _images().get(component, {}).get(variant)
    if entry is None:
        raise Bug(f"templates/images.yaml has no {component} for {variant}")
    if "{version}" in entry.image and not version:
        raise Bug(f"the image of {component} needs a version")
    # A registry's tag has no plus sign: a local build such as 0.33.0+cu130 is published as 0.33.0-cu130.
    return entry.image.replace("{version}", version.replace("+", "-"))
