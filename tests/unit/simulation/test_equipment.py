"""simulation.equipment: what one replica holds and how fast it is, and what of that is assumed."""

import pickle
from dataclasses import replace

import pytest

from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profiles import NAMED, find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import ClosedLoop, Gaps, Setup, Workload, simulate, summary
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.simulation.equipment import Hardware, equipment
from tests.unit.simulation.builders import chain, turn

LIMITS = Limits(n_blocks=2, block_size=64)
QWEN = Hardware(model="Qwen/Qwen3-8B", accelerator="nvidia-h100")
#: 36 layers x 8 heads x 128 x 2 (K and V) x 2 bytes: huggingface.co/Qwen/Qwen3-8B, config.json.
QWEN_TOKEN_BYTES = 147_456


def test_cache_and_profile_as_given() -> None:
    found = equipment(LIMITS, cache_tokens=6400, profile=NAMED["sketch"])
    assert found.limits.usable_tokens == 6400
    assert "6,400 tokens per replica, as given" in found.assumptions[0]
    assert found.fleet(3).tokens == 3 * 6400


def test_cache_and_profile_of_a_model_on_a_device() -> None:
    found = equipment(LIMITS, hardware=QWEN)
    weights, device = 16.4e9, 85.5e9  # 8.19e9 parameters in bf16; 81,559 MiB
    by_hand = (0.92 * device - 3_758_096_384 - weights) / QWEN_TOKEN_BYTES
    assert found.limits.usable_tokens == pytest.approx(by_hand, rel=0.02)
    assert found.profile == find_profile("Qwen/Qwen3-8B@nvidia-h100/1")
    assert "within a factor of two" in found.assumptions[1]


def test_what_is_given_wins_over_what_is_derived() -> None:
    found = equipment(LIMITS, hardware=QWEN, cache_tokens=6400, profile=NAMED["sketch"])
    assert (found.limits.usable_tokens, found.profile.name) == (6400, "sketch")


def test_windows_make_the_capacity_an_upper_bound() -> None:
    found = equipment(LIMITS, hardware=Hardware(model="openai/gpt-oss-20b", accelerator="nvidia-h100"))
    assert "upper bound" in found.assumptions[0]
    assert "upper bound" not in equipment(LIMITS, hardware=QWEN).assumptions[0]


def test_host_memory_holds_blocks_of_the_model_and_can_go_to_other_processes() -> None:
    found = equipment(LIMITS, hardware=QWEN)
    fleet = pickle.loads(pickle.dumps(found.fleet(2, host_bytes=1 << 30)))  # noqa: S301 - our own, just written
    (tier,), (other,) = fleet.tiers(), fleet.tiers()
    assert tier.config.capacity_blocks == (1 << 30) // (QWEN_TOKEN_BYTES * 64)
    assert tier is not other  # a replica's own


def test_host_memory_saves_recomputing_what_the_device_forgot() -> None:
    """Three programs in turn on a cache that holds one of them."""
    programs = [
        chain(name, *(replace(turn(i, 40 + i, gap_s=5.0), block_size=64, prompt_tokens=(40 + i) * 64) for i in range(4)))
        for name in ("a", "b", "c")
    ]  # fmt: skip
    found = equipment(LIMITS, hardware=QWEN, cache_tokens=50 * 64, profile=NAMED["sketch"])

    def recomputed(host_bytes: int) -> float:
        fleet = found.fleet(1, host_bytes=host_bytes)
        setup = Setup(fleet=fleet, load=ClosedLoop(live=3))
        ended = simulate(Workload(programs, fleet, Gaps()), setup, BASELINES["least-load"](fleet, 0))
        return summary(ended).recompute_share

    assert recomputed(0) > 0.5
    assert recomputed(10 << 30) < 0.1


@pytest.mark.parametrize(
    ("hardware", "field", "told"),
    [
        (None, "profile", "is needed"),
        (replace(QWEN, model="none/such"), "model", "not in templates/models"),
        (replace(QWEN, accelerator="abacus"), "accelerator", "there is no preset 'abacus'"),
        (replace(QWEN, model="deepseek-ai/DeepSeek-V3"), "tensor", "use more devices"),
    ],
    ids=["nothing", "model", "accelerator", "does not fit"],
)
def test_what_the_tables_do_not_say_is_refused(hardware: Hardware | None, field: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as caught:
        equipment(LIMITS, hardware=hardware)
    assert caught.value.field == field


def test_host_memory_needs_a_model_and_room_for_a_block() -> None:
    with pytest.raises(InvalidInput, match="needs a model"):
        equipment(LIMITS, cache_tokens=640, profile=NAMED["sketch"]).fleet(1, host_bytes=1 << 30)
    with pytest.raises(InvalidInput, match="hold no block"):
        equipment(LIMITS, hardware=QWEN).fleet(1, host_bytes=1)
