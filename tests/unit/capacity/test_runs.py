"""capacity.runs: cut and joined like lists; names come back; what is no prefix chain is refused."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.capacity.runs import Interner, blocks, check_runs, common_blocks, cut, from_ids, ids
from agentic_serving.errors import InvalidInput

CHAINS = st.lists(st.integers(0, 60), unique=True, max_size=40)


@given(CHAINS, st.integers(0, 45), st.integers(0, 45))
def test_runs_behave_like_the_list_of_their_ids(chain: list[int], start: int, stop: int) -> None:
    runs = from_ids(chain)
    check_runs(runs, "runs")
    assert list(ids(runs)) == chain
    assert blocks(runs) == len(chain)
    assert list(ids(cut(runs, start, stop))) == chain[start:stop]


def test_a_prompt_that_goes_on_is_one_run_and_names_come_back() -> None:
    names = Interner()
    assert names.runs(["a", "b", "c"]) == ((0, 3),)
    assert names.runs(["a", "b", "x", "y"]) == ((0, 2), (3, 2))
    assert names.runs(["a", "b", "c", "d"]) == ((0, 3), (5, 1))
    assert [names.name(block) for block in (0, 3, 5)] == ["a", "x", "d"]
    assert len(names) == 6


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (((-1, 2),), "id >= 0"),
        (((4, 0),), "count >= 1"),
        (((0, 5), (9, 1), (4, 1)), "block id 4 comes twice"),
    ],
)
def test_what_is_no_chain_is_refused(runs: tuple[tuple[int, int], ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_runs(runs, "runs")


PROMPTS = st.lists(st.integers(0, 30), max_size=40)


@given(PROMPTS)
def test_they_are_the_shortest_runs_whatever_the_ids(values: list[int]) -> None:
    runs = from_ids(values)
    assert list(ids(runs)) == values
    assert all(a[0] + a[1] != b[0] for a, b in pairwise(runs))


@given(PROMPTS, PROMPTS, PROMPTS)
def test_common_blocks_is_the_length_of_the_common_prefix(
    head: list[int], a: list[int], b: list[int]
) -> None:
    first, second = head + a, head + b
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    assert common_blocks(from_ids(first), from_ids(second)) == shared
