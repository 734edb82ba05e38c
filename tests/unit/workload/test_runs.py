"""workload.runs: laws over random prompts."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.workload.runs import common_blocks, cut, from_ids, ids, n_blocks

PROMPTS = st.lists(st.integers(0, 30), max_size=40)


@given(PROMPTS)
def test_runs_hold_the_ids_they_were_made_from(values: list[int]) -> None:
    runs = from_ids(values)
    assert list(ids(runs)) == values
    assert n_blocks(runs) == len(values)
    assert all(a[0] + a[1] != b[0] for a, b in pairwise(runs)), "not the shortest runs"


@given(PROMPTS, PROMPTS, PROMPTS)
def test_common_blocks_is_the_length_of_the_common_prefix(
    head: list[int], a: list[int], b: list[int]
) -> None:
    first, second = head + a, head + b
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    assert common_blocks(from_ids(first), from_ids(second)) == shared


@given(PROMPTS, st.integers(0, 50))
def test_cut_keeps_the_first_blocks(values: list[int], stop: int) -> None:
    assert list(ids(cut(from_ids(values), stop))) == values[:stop]
