"""What engines' events correct: others' tokens push out what is oldest, an emptied cache has nothing, and our own turns are not others.

Replicas hold 100,000 tokens, in blocks of 100.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program import events as ev
from tests.unit.program.scheduling import Driver

BLOCK = 100


class Engine(Driver):
    """One replica that is listened to."""

    def __init__(self, **news: Any) -> None:
        super().__init__(1)
        self.always = news
        self.news(gap=True)

    def news(self, stored: int = 0, **fields: Any) -> int:
        """What the engine told; how much of it was others'."""
        before = self.scheduler.others_tokens
        told = {"block_tokens": BLOCK, **self.always, **fields}
        self.do(ev.CachesSeen((ev.CacheNews(replica="r0", stored_tokens=stored, **told),)))
        return self.scheduler.others_tokens - before

    def warm(self, session: str) -> int:
        return self.scheduler.ledger.warm(session, "r0")


def test_others_push_out_what_is_oldest_from_its_end() -> None:
    d = Engine()
    for session in ("a", "b"):
        d.serve(f"{session}.0", 40_000, output=1)
    assert d.news(80_000) == 0  # ours
    assert d.news(50_000) == 50_000
    assert (d.warm("a"), d.warm("b")) == (9_999, 40_001)
    d.arrive("a.1", 41_000, own=40_001)
    assert d.admits["a.1"].uncached_tokens == 41_000 - 9_999


def test_what_others_stored_is_evicted_before_what_was_used_after_it() -> None:
    d = Engine()
    d.news(60_000)
    d.serve("a.0", 40_000)
    assert d.news(40_000) == 0
    d.serve("b.0", 60_000)
    assert (d.warm("a"), d.warm("b")) == (40_000, 60_000)


@pytest.mark.parametrize(
    "news", [{"cleared": True}, {"cleared": True, "gap": True}], ids=["cleared", "restarted"]
)
def test_an_emptied_cache_has_nothing_but_what_is_in_use(news: dict[str, Any]) -> None:
    d = Engine()
    d.serve("a.0", 40_000)
    d.arrive("b.0", 20_000)
    d.news(**news)
    assert (d.warm("a"), d.warm("b")) == (0, 20_000)


def test_our_own_turns_are_not_others_while_they_are_computed() -> None:
    d = Engine()
    d.arrive("a.0", 30_000)
    assert [d.news(10_000), d.news(20_000)] == [0, 0]
    d.first_token("a.0")
    d.end("a.0", output=201, cached=0)
    assert d.news(200) == 0, "the answer's blocks"


def test_an_answer_that_was_taken_for_others_is_made_up_for() -> None:
    d = Engine()
    d.arrive("a.0", 30_000)
    d.first_token("a.0")
    assert d.news(34_000) == 4_000, "4,000 tokens of an answer, or of somebody else: nobody knows yet"
    d.end("a.0", output=4_001, cached=0)
    assert [d.news(4_000), d.news(1_000)] == [0, 1_000]


def test_an_end_may_come_before_its_events() -> None:
    d = Engine()
    d.serve("a.0", 10_000)
    assert (d.news(10_000), d.warm("a")) == (0, 10_000)


def test_what_was_stored_of_a_turn_without_an_answer_is_nobodys() -> None:
    d = Engine()
    d.arrive("a.0", 30_000)
    assert d.news(12_000) == 0
    d.do(ev.Failed("a.0"))
    assert d.news() == 12_000


def test_side_requests_take_room() -> None:
    d = Engine()
    d.serve("t.0", 5_000, side=True)
    assert d.news(5_000) == 5_000


@pytest.mark.parametrize(
    ("loads", "others"), [(False, 20_000), (True, 0)], ids=["only computed", "loaded as well"]
)
def test_what_is_loaded_from_elsewhere_is_stored_again(loads: bool, others: int) -> None:
    """A prompt of which nothing was believed here; the engine says that 20,000 tokens were cached."""
    d = Engine(loads=loads)
    d.arrive("a.0", 30_000)
    d.first_token("a.0")
    d.end("a.0", output=1, cached=20_000)
    assert d.news(30_000) == others


def test_after_a_gap_our_turns_owe_nothing() -> None:
    """What they stored meanwhile was never told, so it must not hide what others store."""
    d = Engine()
    d.arrive("a.0", 30_000)
    d.news(gap=True)
    d.first_token("a.0")
    d.end("a.0", output=1, cached=0)
    assert d.news(7_000) == 7_000


def test_an_engine_that_stops_telling_is_owed_only_so_much() -> None:
    d = Engine()
    for i in range(50):
        d.serve(f"s{i}.0", 10_000)
    assert d.news(120_000) == 20_000, "as much as it holds"


def test_the_first_news_tell_of_turns_from_before() -> None:
    d = Driver(1)
    d.serve("a.0", 30_000)
    d.do(ev.CachesSeen((ev.CacheNews(replica="r0", stored_tokens=90_000, block_tokens=BLOCK),)))
    assert (d.scheduler.others_tokens, d.scheduler.ledger.warm("a", "r0")) == (0, 30_000)


def test_nothing_is_learned_of_replicas_that_nobody_listens_to() -> None:
    d = Driver(1)
    d.serve("a.0", 30_000)
    news = ev.CacheNews(replica="r9", stored_tokens=90_000, cleared=True)
    d.do(ev.CachesSeen((news,)))
    assert (d.scheduler.others_tokens, d.scheduler.ledger.warm("a", "r0")) == (0, 30_000)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30), st.integers(0, 20)), max_size=30),
    st.data(),
)
def test_in_order_or_not_the_sum_of_others_is_theirs(
    turns: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    """Turns one after the other (prompt, answer, others meanwhile; in blocks), told in pieces of any size."""
    d, theirs = Engine(), 0
    for number, (prompt, answer, others) in enumerate(turns):
        d.arrive(f"s{number}.0", prompt * BLOCK)
        d.first_token(f"s{number}.0")
        stored = (prompt + answer + others) * BLOCK
        theirs += others * BLOCK
        early = data.draw(st.integers(0, stored))
        d.news(early)
        d.end(f"s{number}.0", output=answer * BLOCK + 1, cached=0)
        d.news(stored - early)
        answers = max((turn[1] for turn in turns[: number + 1]), default=0) * BLOCK
        assert theirs <= d.scheduler.others_tokens <= theirs + answers
