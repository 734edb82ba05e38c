"""A picker configuration in the making: what is declared, who refers to it, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentic_serving.api.rules import Rule
from agentic_serving.render.picker_inputs import PickerInputs

__all__ = ["Draft"]


@dataclass(slots=True)
class Draft:
    """A configuration in the making."""

    inputs: PickerInputs
    plugins: list[dict[str, Any]] = field(default_factory=list)
    profiles: list[dict[str, Any]] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)

    def add(self, kind: str, *, name: str = "", parameters: Mapping[str, Any] | None = None) -> str:
        """Declares a plugin once and returns the name to refer to it by."""
        ref = name or kind
        if all(p.get("name", p["type"]) != ref for p in self.plugins):
            plugin: dict[str, Any] = {"type": kind}
            if ref != kind:
                plugin["name"] = ref
            if parameters:
                plugin["parameters"] = dict(parameters)
            self.plugins.append(plugin)
        return ref

    def because(self, name: str, reason: str, source: str) -> None:
        self.rules.append(Rule(id=f"picker/{name}", reason=reason, source=source))

    def config(self) -> dict[str, Any]:
        return {
            "apiVersion": self.inputs.release.config_api_version,
            "kind": "EndpointPickerConfig",
            # Off in every release unless it is named.
            "featureGates": ["flowControl"] if self.inputs.queueing else [],
            "plugins": self.plugins,
            "schedulingProfiles": self.profiles,
            **self.sections,
        }
