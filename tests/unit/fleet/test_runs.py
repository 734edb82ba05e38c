"""fleet.runs: cut and joined like lists; names come back; what is no prefix chain is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.runs import Interner, blocks, check_runs, cut, from_ids, ids

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
