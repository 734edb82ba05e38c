"""KV connectors of vLLM: what moves KV cache between engines and tiers, as `--kv-transfer-config`.

vLLM accepts any connector name and any key of its settings, so ours are checked against an own table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agentic_serving.api.rules import Rule
from agentic_serving.capacity.accelerator import Accelerator
from agentic_serving.engines.base import Role
from agentic_serving.engines.tables import VersionTable
from agentic_serving.errors import Bug

__all__ = [
    "COMBINE_RULE",
    "NIXL_PORT",
    "NIXL_RULE",
    "RECOMPUTE_RULE",
    "children",
    "combine",
    "connector_problems",
    "nixl_connector",
]

#: VLLM_NIXL_SIDE_CHANNEL_PORT's default in vllm/envs.py, 0.33.0; data-parallel rank r uses port + r.
NIXL_PORT = 5600

NIXL_RULE = Rule(
    id="engine/nixl-role",
    reason="prefill pods only send KV cache and decode pods only receive it; kv_both is deprecated for NIXL",
    source="vLLM 0.33.0, vllm/distributed/kv_transfer/kv_connector/v1/nixl/connector.py",
)
RECOMPUTE_RULE = Rule(
    id="engine/recompute-failed-loads",
    reason="a turn whose KV cache does not arrive, such as when a prefill pod is scaled down, is computed again where"
    " it is; failing it would cost the agent its whole task",
    source="llm-d v0.10, docs/operations/disaggregation/vllm.md; vLLM 0.33.0, vllm/config/kv_transfer.py: default fail",
)
COMBINE_RULE = Rule(
    id="engine/one-connector",
    reason="transfer and tiers go into one MultiConnector; --kv-offloading-size would silently replace the transfer",
    source="vLLM 0.33.0, vllm/config/vllm.py, _post_init_kv_transfer_config",
)


def nixl_connector(role: Role, accelerator: Accelerator) -> dict[str, Any]:
    """The KVTransferConfig of a prefill or decode engine.

    Raises:
        Bug: the role moves no KV cache.
    """
    if role == "Aggregated":
        raise Bug("an aggregated engine transfers no KV cache")
    config: dict[str, Any] = {
        "kv_connector": "NixlConnector",
        "kv_role": "kv_producer" if role == "Prefill" else "kv_consumer",
        "kv_load_failure_policy": "recompute",
    }
    if accelerator.vendor == "CPU":
        # The default comes from the platform and is no device that NIXL knows on a CPU.
        config["kv_buffer_device"] = "cpu"
    return config


def combine(parts: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """One KVTransferConfig of several, in the order in which loads are tried; None of none.

    The policy for failed loads counts at the top only (vllm/v1/core/sched/scheduler.py), so it moves there.
    """
    present = [dict(part) for part in parts if part is not None]
    if not present:
        return None
    if len(present) == 1:
        return present[0]
    policies = {str(part.pop("kv_load_failure_policy", "recompute")) for part in present}
    return {
        "kv_connector": "MultiConnector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "fail" if "fail" in policies else "recompute",
        "kv_connector_extra_config": {"connectors": present},
    }


def children(config: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], ...]:
    """The connectors that do the work: those of a MultiConnector, or the one itself."""
    if config is None:
        return ()
    if config.get("kv_connector") == "MultiConnector":
        return tuple(config["kv_connector_extra_config"]["connectors"])
    return (config,)


def connector_problems(config: Mapping[str, Any] | None, table: VersionTable) -> tuple[str, ...]:
    """What in a KVTransferConfig this version would ignore or fail on; empty if nothing."""
    problems: list[str] = []
    parts = ((config,) if config is not None else ()) + children(config)
    for part in parts:
        problems += _part_problems(part, table)
    return tuple(dict.fromkeys(problems))


_ROLES = ("kv_producer", "kv_consumer", "kv_both")
_FIELDS = (
    "kv_connector",
    "kv_role",
    "engine_id",
    "kv_buffer_device",
    "kv_port",
    "kv_connector_extra_config",
    "kv_connector_module_path",
    "enable_permute_local_kv",
    "kv_load_failure_policy",
)


def _part_problems(part: Mapping[str, Any], table: VersionTable) -> list[str]:
    problems = [f"unknown field {field}" for field in part if field not in _FIELDS]
    if part.get("kv_role") not in _ROLES:
        problems.append(f"kv_role {part.get('kv_role')} is none of {', '.join(_ROLES)}")
    name = str(part.get("kv_connector"))
    keys = table.connectors.get(name)
    if keys is None:
        return [*problems, f"unknown connector {name}"]
    extra = part.get("kv_connector_extra_config", {})
    return problems + [f"{name} does not read {key}" for key in extra if key not in keys]
