"""Contexts of generated conversations: what grows from a context shares its blocks, and nothing else does."""

from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.capacity.runs import blocks, check_runs, common_blocks
from agentic_serving.workload.generate.talk import Context, Ids

TOKENS = st.integers(min_value=0, max_value=500)


@given(
    size=st.integers(min_value=1, max_value=64), steps=st.lists(TOKENS, max_size=8), kept=TOKENS, more=TOKENS
)
def test_a_branch_shares_the_full_blocks_that_it_was_cut_to(
    size: int, steps: list[int], kept: int, more: int
) -> None:
    ids = Ids(size)
    context = Context()
    for step in steps:
        context = context.grown(step, ids)
        assert blocks(context.runs) == context.tokens // size
    branch = context.cut(kept, ids).grown(more, ids)
    assert branch.tokens == min(kept, context.tokens) + more
    assert blocks(branch.runs) == branch.tokens // size
    assert common_blocks(context.runs, branch.runs) == min(kept, context.tokens) // size
    check_runs(branch.runs, "branch")


@given(size=st.integers(min_value=1, max_value=64), tokens=TOKENS)
def test_rounding_fills_the_last_block_and_no_more(size: int, tokens: int) -> None:
    ids = Ids(size)
    rounded = Context().grown(tokens, ids).rounded(ids)
    assert rounded.tokens % size == 0
    assert 0 <= rounded.tokens - tokens < size
