"""The engine's own offload to host memory: vLLM's OffloadingConnector.

Source: vLLM 0.33.0, vllm/v1/kv_offload/cpu/spec.py. Its `cpu_bytes_to_use` counts for one engine core with all its
tensor and pipeline ranks, and each data-parallel rank is an engine core of its own.
"""

from agentic_serving.api.rules import Rule
from agentic_serving.tiers.base import TierInputs, TierPlan, sized

__all__ = ["MECHANISM", "native_plan", "native_unsupported"]

MECHANISM = "vLLM OffloadingConnector"

_RULES = (
    Rule(
        id="tier/native-connector",
        reason="offload is named as a connector; --kv-offloading-size would silently replace the P/D transfer",
        source="vLLM 0.33.0, vllm/config/vllm.py, _post_init_kv_transfer_config",
    ),
    Rule(
        id="tier/native-shared-memory",
        reason="the offloaded cache is a file in /dev/shm, so the memory volume there and the memory limit grow by it",
        source="vLLM 0.33.0, vllm/v1/kv_offload/cpu/shared_offload_region.py",
    ),
    Rule(
        id="tier/recompute-failed-loads",
        reason="blocks that cannot be loaded back are computed again instead of failing an agent's turn",
        source="vLLM 0.33.0, vllm/config/kv_transfer.py: the default is fail",
    ),
)


def native_unsupported(inputs: TierInputs) -> str | None:
    """Why vLLM cannot offload here; None if it can."""
    if inputs.accelerator.vendor != "CPU":
        return None
    return (
        "vLLM offloads KV cache only from CUDA-alike and XPU devices, and on a CPU preset it is in host memory "
        "already: give the KV cache itself more room with VLLM_CPU_KVCACHE_SPACE in spec.engine.env"
    )


def native_plan(inputs: TierInputs, capacity_bytes: int) -> TierPlan:
    """Offload of `capacity_bytes` per replica, shared out among its data-parallel ranks."""
    per_engine = capacity_bytes // inputs.parallelism.data
    tokens, blocks = sized(inputs, capacity_bytes)
    connector = {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_load_failure_policy": "recompute",
        "kv_connector_extra_config": {"cpu_bytes_to_use": per_engine},
    }
    return TierPlan(
        connector=connector,
        shm_bytes=capacity_bytes,
        engine_memory_bytes=capacity_bytes,
        memory_bytes=capacity_bytes,
        capacity_bytes=capacity_bytes,
        capacity_tokens=tokens,
        capacity_blocks=blocks,
        rules=_RULES,
    )
