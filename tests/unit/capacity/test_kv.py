"""capacity.kv: published sizes, copies and sequences by hand, laws, refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.capacity import kv
from agentic_serving.errors import InvalidInput

counts = st.integers(1, 512)


def test_grouped_token_bytes_agree_with_the_source() -> None:
    # arXiv:2309.06180, section 3, OPT-13B: 2 x 5120 x 40 x 2 bytes, "800 KB".
    assert kv.grouped_token_bytes(n_layers=40, n_kv_heads=40, head_dim=128, element_bytes=2) == 800 * 1024


def test_latent_token_bytes_agree_with_the_source() -> None:
    # arXiv:2505.09343, table 1, DeepSeek-V3: 70.272 KB.
    size = kv.latent_token_bytes(n_layers=61, kv_lora_rank=512, rope_head_dim=64, element_bytes=2)
    assert size == 70_272


@pytest.mark.parametrize(
    ("heads", "tensor", "copies"),
    [(8, 1, 1), (8, 8, 1), (8, 16, 2), (2, 8, 4), (1, 8, 8), (4, 4, 1), (None, 8, 1)],
    ids=str,
)
def test_ranks_beyond_the_heads_hold_copies(heads: int | None, tensor: int, copies: int) -> None:
    assert kv.copies(heads, tensor) == copies


@pytest.mark.parametrize(
    ("tokens", "held"),
    [
        pytest.param(0, 0, id="no sequence holds nothing"),
        pytest.param(1, 100 + 10 + 5000, id="the state is there from the first token"),
        pytest.param(128, 128 * 110 + 5000, id="a full window"),
        pytest.param(1000, 1000 * 100 + 128 * 10 + 5000, id="beyond the window only full layers grow"),
    ],
)
def test_a_sequence_holds_context_window_and_state(tokens: int, held: int) -> None:
    sizes = {"token_bytes": 100, "window_token_bytes": 10, "window_tokens": 128, "state_bytes": 5000}
    assert kv.sequence_bytes(tokens, **sizes) == held


@given(heads=counts, tensor=counts)
def test_every_rank_holds_at_least_one_head_and_no_rank_more_than_needed(heads: int, tensor: int) -> None:
    held = heads * kv.copies(heads, tensor)
    assert held >= tensor
    assert held - heads < tensor


@given(tokens=st.integers(0, 10**6), more=st.integers(0, 10**6), window=st.integers(1, 10**5))
def test_a_longer_sequence_never_holds_less(tokens: int, more: int, window: int) -> None:
    sizes = {"token_bytes": 7, "window_token_bytes": 3, "window_tokens": window, "state_bytes": 11}
    assert kv.sequence_bytes(tokens, **sizes) <= kv.sequence_bytes(tokens + more, **sizes)


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tokens"):
        kv.sequence_bytes(-1, token_bytes=1)


def test_no_rank_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tensor"):
        kv.copies(8, 0)
