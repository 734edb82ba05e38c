"""Releases of the endpoint picker as data: `templates/pickers/<release>.yaml`.

What a release lacks is a reason in `lacks`, which becomes a capability or a finding; nothing here asks for a
release by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import yaml

from agentic_serving.assets import templates_dir
from agentic_serving.errors import InvalidInput

__all__ = ["Headers", "PickerRelease", "Plugin", "Sidecar", "load_release", "release_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plugin type of the picker.

    Attributes:
        stability: an Alpha plugin keeps the picker from starting without the release's `experimental_flag`.
        parameters: names that its configuration may have; any other fails at start.
    """

    stability: Literal["Alpha", "Beta", "Stable"]
    parameters: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers:
    """Names of the headers between Envoy, picker and engines, in lower case; None: the release has no such header."""

    fairness: str
    objective: str
    dropped_reason: str | None
    destination: str
    prefiller: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """The proxy beside a decode engine that fetches the prefilled cache."""

    image: str
    flags: tuple[str, ...]
    connectors: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PickerRelease:
    """What the renderer must know of one release.

    Attributes:
        lacks: intent (`Disaggregation`) to the reason, a clause that goes on from "the picker <name> ".
        saturation_detector_in: where the configuration names its saturation detector.
        parsers: parsers to list in the configuration; empty: leave the release's default.
        min_index_block_tokens: the finest grain of its prefix index; smaller blocks are rounded up to it.
        default_prefix_producer: name of the prefix index read by plugins that cannot be told another.
        fairness_plugin: what chooses the next session from the queue, and its parameters.
    """

    name: str
    version: str
    source: str
    image: str
    config_api_version: str
    saturation_detector_in: Literal["flowControl", "top"]
    parsers: tuple[str, ...]
    min_index_block_tokens: int
    default_prefix_producer: str
    fairness_plugin: str
    fairness_parameters: Mapping[str, Any]
    feature_gates: frozenset[str]
    flags: tuple[str, ...]
    experimental_flag: str | None
    headers: Headers
    objective_group: str
    objective_version: str
    metric_prefix: str
    sidecar: Sidecar | None
    lacks: Mapping[str, str]
    plugins: Mapping[str, Plugin]

    @property
    def objective_api_version(self) -> str:
        """`apiVersion` of the InferenceObjectives that this release reads."""
        return f"{self.objective_group}/{self.objective_version}"


@cache
def release_names() -> tuple[str, ...]:
    """The releases that can be asked for, sorted."""
    return tuple(sorted(file.stem for file in (templates_dir() / "pickers").glob("*.yaml")))


@cache
def load_release(name: str) -> PickerRelease:
    """The release of that name.

    Raises:
        InvalidInput: there is none.
    """
    if name not in release_names():
        known = ", ".join(release_names())
        raise InvalidInput(
            "spec.router.endpointPicker.release", f"{name!r} is not a known release; use one of {known}"
        )
    text = (templates_dir() / "pickers" / f"{name}.yaml").read_text(encoding="utf-8")
    return _parse(yaml.safe_load(text))


def _parse(data: Mapping[str, Any]) -> PickerRelease:
    config, headers = data["config"], data["headers"]
    return PickerRelease(
        name=data["name"],
        version=data["version"],
        source=data["source"],
        image=data["image"],
        config_api_version=config["apiVersion"],
        saturation_detector_in=config["saturationDetectorIn"],
        parsers=tuple(config["parsers"]),
        min_index_block_tokens=config["minIndexBlockTokens"],
        default_prefix_producer=config["defaultPrefixProducer"],
        fairness_plugin=config["fairness"]["plugin"],
        fairness_parameters=config["fairness"]["parameters"],
        feature_gates=frozenset(data["featureGates"]),
        flags=tuple(data["flags"]),
        experimental_flag=data["experimentalFlag"],
        headers=Headers(
            fairness=headers["fairness"],
            objective=headers["objective"],
            dropped_reason=headers["droppedReason"],
            destination=headers["destination"],
            prefiller=headers["prefiller"],
        ),
        objective_group=data["objectives"]["group"],
        objective_version=data["objectives"]["version"],
        metric_prefix=data["metricPrefix"],
        sidecar=_sidecar(data["sidecar"]),
        lacks=data["lacks"],
        plugins={
            name: Plugin(stability=plugin["stability"], parameters=frozenset(plugin["parameters"]))
            for name, plugin in data["plugins"].items()
        },
    )


def _sidecar(data: Mapping[str, Any] | None) -> Sidecar | None:
    if data is None:
        return None
    return Sidecar(image=data["image"], flags=tuple(data["flags"]), connectors=frozenset(data["connectors"]))
