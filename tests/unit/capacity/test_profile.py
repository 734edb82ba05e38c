"""capacity.profile: what a sequence holds on a replica, and sizes that contradict each other."""

import pytest

from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.errors import InvalidInput


def test_heads_are_copied_but_states_are_split() -> None:
    hybrid = ModelProfile(
        name="hybrid",
        attention="Hybrid",
        kv_bytes_per_token=8192,
        state_bytes_per_sequence=1_000_000,
        n_kv_heads=2,
    )
    assert hybrid.sequence_bytes(100) == 819_200 + 1_000_000
    assert hybrid.sequence_bytes(100, tensor=8) == 4 * 819_200 + 1_000_000


def test_a_latent_cache_is_on_every_rank_even_if_nobody_counted_its_heads() -> None:
    latent = ModelProfile(name="latent", attention="MLA", kv_bytes_per_token=70_272)
    assert latent.copies(8) == 8


def test_without_the_hybrid_manager_windows_count_in_full() -> None:
    sliding = ModelProfile(
        name="sliding",
        attention="SlidingWindow",
        kv_bytes_per_token=100,
        window_bytes_per_token=30,
        window_tokens=128,
    )
    assert sliding.all_layers_bytes_per_token == 130


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kv_bytes_per_token": 0}, "kv_bytes_per_token"),
        ({"kv_bytes_per_token": -1}, "kv_bytes_per_token"),
        ({"window_bytes_per_token": 10}, "window_tokens"),
        ({"window_tokens": 10}, "window_tokens"),
        ({"state_bytes_per_sequence": -1}, "state_bytes_per_sequence"),
        ({"n_kv_heads": 0}, "n_kv_heads"),
        ({"weight_bytes": 0}, "weight_bytes"),
        ({"kv_element_bytes": 0}, "kv_element_bytes"),
    ],
    ids=str,
)
def test_a_contradiction_is_refused_by_field(change: dict[str, int], field: str) -> None:
    sizes: dict[str, int] = {"kv_bytes_per_token": 1024, **change}
    with pytest.raises(InvalidInput) as refused:
        ModelProfile(name="x", attention=None, **sizes)
    assert refused.value.field == field
