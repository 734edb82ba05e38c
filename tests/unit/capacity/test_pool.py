"""capacity.pool: pools and tiers by hand, one measured engine, laws over random sizes, reasons for what is unknown."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.capacity.accelerator import Accelerator, find_accelerator
from agentic_serving.capacity.pool import (
    Memory,
    Parallelism,
    Unknown,
    kv_capacity_tokens,
    kv_pool_bytes,
    lookup_profile,
    tier_blocks,
    tier_tokens,
)
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.errors import InvalidInput

GIB = 1024**3
#: 80 GiB a device, of which the engine takes half and keeps 4 GiB of that: 36 GiB for weights and cache.
DEVICE = Accelerator(
    name="device",
    vendor="NVIDIA",
    description="a made-up device",
    engine_variant="cuda",
    shared_memory_bytes=1,
    devices_per_node=8,
    memory_bytes=80 * GIB,
)
HALF = Memory(utilization=0.5, reserve_bytes_per_device=4 * GIB)
#: 32 GiB of weights and 1 MiB of cache a token.
MODEL = ModelProfile(
    name="model",
    attention="GQA",
    kv_bytes_per_token=2**20,
    n_kv_heads=4,
    mixture_of_experts=False,
    weight_bytes=32 * GIB,
)
EXPERTS = replace(MODEL, mixture_of_experts=True)


@pytest.mark.parametrize(
    ("split", "pool_gib", "tokens"),
    [
        pytest.param(Parallelism(), 36 - 32, 4 * 1024, id="one device"),
        pytest.param(Parallelism(tensor=2), 2 * (36 - 16), 40 * 1024, id="two ranks share weights and heads"),
        pytest.param(
            Parallelism(pipeline=2), 2 * (36 - 16), 40 * 1024, id="two stages share weights and layers"
        ),
        pytest.param(Parallelism(tensor=8), 8 * (36 - 4), 128 * 1024, id="eight ranks hold four heads twice"),
        pytest.param(
            Parallelism(data=2), 2 * (36 - 32), 8 * 1024, id="data-parallel ranks repeat dense weights"
        ),
    ],
)
def test_the_pool_is_what_weights_and_reserve_leave(split: Parallelism, pool_gib: int, tokens: int) -> None:
    assert kv_pool_bytes(MODEL, DEVICE, split, HALF) == pool_gib * GIB
    assert kv_capacity_tokens(MODEL, DEVICE, split, HALF) == tokens


def test_weights_that_fill_the_device_leave_an_empty_pool() -> None:
    assert kv_pool_bytes(replace(MODEL, weight_bytes=40 * GIB), DEVICE, Parallelism(), HALF) == 0


def test_a_cpu_pool_is_what_the_engine_is_told() -> None:
    cpu = find_accelerator("cpu")
    assert (
        kv_pool_bytes(MODEL, cpu, Parallelism()) == 32 * GIB
    )  # VLLM_CPU_KVCACHE_SPACE=32, whatever the weights
    assert kv_capacity_tokens(MODEL, cpu, Parallelism()) == 32 * 1024


def test_capacity_is_an_upper_bound_close_to_what_vllm_allocated() -> None:
    # https://github.com/noonghunna/club-3090/issues/612: Qwen3.6-35B-A3B with an fp8 cache and "Available KV cache
    # memory: 5.98 GiB" has "GPU KV cache size: 567,978 tokens"; part of it holds linear-attention states.
    profile = lookup_profile("Qwen/Qwen3.5-35B-A3B", kv_element_bytes=1)  # the same attention
    assert isinstance(profile, ModelProfile)
    given_pool = replace(DEVICE, memory_bytes=None, kv_cache_bytes=int(5.98 * GIB))
    tokens = kv_capacity_tokens(profile, given_pool, Parallelism())
    assert isinstance(tokens, int)
    assert 567_978 <= tokens <= 567_978 * 1.12


@pytest.mark.parametrize(
    ("capacity_gib", "block_tokens", "tensor", "blocks"),
    [(1, 16, 1, 64), (1, 1, 1, 1024), (0, 16, 1, 0), (1, 1025, 1, 0), (1, 16, 8, 32)],
    ids=str,
)
def test_a_tier_holds_whole_blocks(capacity_gib: int, block_tokens: int, tensor: int, blocks: int) -> None:
    assert tier_blocks(capacity_gib * GIB, MODEL, block_tokens, tensor=tensor) == blocks


def test_a_tier_keeps_windows_in_full() -> None:
    sliding = replace(MODEL, window_bytes_per_token=2**20, window_tokens=128)
    assert tier_tokens(GIB, sliding) == 512


sizes = st.integers(1, 2**40)


@given(weights=sizes, more=sizes, memory=sizes, tensor=st.sampled_from([1, 2, 4, 8]))
def test_more_memory_never_shrinks_the_pool_and_more_weights_never_grow_it(
    weights: int, more: int, memory: int, tensor: int
) -> None:
    def pool(weight_bytes: int, memory_bytes: int) -> int:
        found = kv_pool_bytes(
            replace(MODEL, weight_bytes=weight_bytes),
            replace(DEVICE, memory_bytes=memory_bytes),
            Parallelism(tensor=tensor),
        )
        assert isinstance(found, int)
        return found

    assert 0 <= pool(weights, memory) <= pool(weights, memory + more)
    assert pool(weights + more, memory) <= pool(weights, memory)


@given(capacity=sizes, block=st.integers(1, 4096), tensor=st.sampled_from([1, 2, 4, 8, 16]))
def test_blocks_never_promise_more_than_the_tier_has(capacity: int, block: int, tensor: int) -> None:
    blocks = tier_blocks(capacity, MODEL, block, tensor=tensor)
    held = blocks * block * MODEL.kv_bytes_per_token * MODEL.copies(tensor)
    assert held <= capacity
    assert capacity - held < block * MODEL.kv_bytes_per_token * MODEL.copies(tensor)


@pytest.mark.parametrize(
    ("profile", "accelerator", "split", "reason"),
    [
        pytest.param(
            lookup_profile("x/y"),
            DEVICE,
            Parallelism(),
            "model x/y is not in templates/models and spec.model.profile is not set",
            id="model",
        ),
        pytest.param(
            replace(MODEL, weight_bytes=None),
            DEVICE,
            Parallelism(),
            "weight bytes of model model",
            id="weights",
        ),
        pytest.param(
            MODEL, replace(DEVICE, memory_bytes=None), Parallelism(), "memory of accelerator", id="memory"
        ),
        pytest.param(EXPERTS, DEVICE, Parallelism(data=2), "depends on its experts", id="experts"),
    ],
)
def test_what_is_not_known_gives_a_reason_and_no_number(
    profile: ModelProfile | Unknown, accelerator: Accelerator, split: Parallelism, reason: str
) -> None:
    for size in (kv_pool_bytes, kv_capacity_tokens):
        found = size(profile, accelerator, split)
        assert isinstance(found, Unknown)
        assert found.reason.startswith("sizing off: ")
        assert reason in found.reason


def test_a_profile_of_the_user_wins_over_the_table() -> None:
    own = ModelProfile(name="Qwen/Qwen3-32B", attention=None, kv_bytes_per_token=1)
    assert lookup_profile("Qwen/Qwen3-32B", own) is own


@pytest.mark.parametrize("field", ["tensor", "pipeline", "data"])
def test_a_parallelism_below_one_is_refused(field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        Parallelism(**{field: 0})


@pytest.mark.parametrize("utilization", [0, -0.1, 1.1])
def test_an_impossible_utilization_is_refused(utilization: float) -> None:
    with pytest.raises(InvalidInput, match="utilization"):
        Memory(utilization=utilization)


def test_a_negative_tier_and_an_empty_block_are_refused() -> None:
    with pytest.raises(InvalidInput, match="capacity_bytes"):
        tier_tokens(-1, MODEL)
    with pytest.raises(InvalidInput, match="block_tokens"):
        tier_blocks(1, MODEL, 0)
