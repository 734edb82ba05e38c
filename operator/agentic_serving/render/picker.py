"""The endpoint picker's configuration, command line and rights: pure, with a rule for every plugin and weight.

The configuration is read once at start and decoded strictly: one unknown field or parameter and the picker does
not start. `picker_config` writes nothing that the release's data (`templates/pickers/`) does not list.

Not used: prefix-cache-affinity-filter, the newest choice of llm-d's guides. It needs the prefill throughput of
this model on this hardware (`peakPrefillThroughput`, "must be calibrated"), which nobody has measured here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentic_serving.api.rules import Rule
from agentic_serving.errors import Bug
from agentic_serving.render.picker_draft import Draft
from agentic_serving.render.picker_inputs import (
    PickerInputs,
    TierIndex,
    picker_capabilities,
    picker_findings,
)
from agentic_serving.render.picker_plugins import add_flow_control, add_profiles
from agentic_serving.render.releases import PickerRelease

__all__ = [
    "PickerConfig",
    "PickerInputs",
    "TierIndex",
    "picker_args",
    "picker_capabilities",
    "picker_config",
    "picker_findings",
    "picker_rbac",
    "sidecar_args",
]

POOL_GROUP = "inference.networking.k8s.io"
READ = ["get", "list", "watch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PickerConfig:
    """An EndpointPickerConfig and why it is as it is."""

    config: Mapping[str, Any]
    rules: tuple[Rule, ...]


def picker_config(inputs: PickerInputs) -> PickerConfig:
    """The configuration for these inputs.

    Raises:
        Bug: `picker_findings` refuses these inputs, or the release does not know what we wrote.
    """
    refused = picker_findings(inputs)
    if refused:
        raise Bug(f"picker configuration asked for although refused: {refused[0]}")
    draft = Draft(inputs)
    add_profiles(draft)
    add_flow_control(draft)
    config = draft.config()
    _check(inputs.release, config)
    return PickerConfig(config=config, rules=tuple(draft.rules))


def _check(release: PickerRelease, config: Mapping[str, Any]) -> None:
    """Everything written is known to the release; what is not would keep the picker from starting."""
    for plugin in config["plugins"]:
        known = release.plugins.get(plugin["type"])
        if known is None:
            raise Bug(f"{release.name} has no plugin {plugin['type']}")
        unknown = set(plugin.get("parameters", {})) - known.parameters
        if unknown:
            raise Bug(f"{release.name}: {plugin['type']} has no parameter {', '.join(sorted(unknown))}")
    for gate in config.get("featureGates", []):
        if gate not in release.feature_gates:
            raise Bug(f"{release.name} has no feature gate {gate}")


def picker_args(
    release: PickerRelease, config: PickerConfig, *, pool_name: str, pool_namespace: str, config_file: str
) -> tuple[str, ...]:
    """The picker's command line. Gated flags appear only where the configuration needs them."""
    used = {plugin["type"] for plugin in config.config["plugins"]}
    alpha = any(release.plugins[name].stability == "Alpha" for name in used)
    gated = (release.experimental_flag,) if alpha and release.experimental_flag else ()
    return (
        f"--pool-name={pool_name}",
        f"--pool-namespace={pool_namespace}",
        f"--pool-group={POOL_GROUP}",
        f"--config-file={config_file}",
        *release.flags,
        *gated,
    )


def picker_rbac(release: PickerRelease) -> list[dict[str, list[str]]]:
    """Rules of the picker's Role, in its own namespace. Source: `config/charts/routerlib/templates/_rbac.yaml`."""
    return [
        {"apiGroups": [""], "resources": ["pods"], "verbs": READ},
        {"apiGroups": [POOL_GROUP], "resources": ["inferencepools"], "verbs": READ},
        {
            "apiGroups": [release.objective_group],
            "resources": ["inferenceobjectives", "inferencemodelrewrites"],
            "verbs": READ,
        },
    ]


def sidecar_args(release: PickerRelease, connector: str) -> tuple[str, ...]:
    """Command line of the proxy beside a decode engine, for a KV connector that it knows (`nixlv2`)."""
    sidecar = release.sidecar
    if sidecar is None or connector not in sidecar.connectors:
        raise Bug(f"{release.name} has no sidecar for {connector}")
    return (*sidecar.flags, f"--kv-connector={connector}")
