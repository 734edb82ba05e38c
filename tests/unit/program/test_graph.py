"""program.graph: how conversations grow and break, sharing between sessions, bounds, laws."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.errors import InvalidInput
from agentic_serving.program.blocks import Block
from agentic_serving.program.graph import SessionGraph
from agentic_serving.program.hashing import ROOT, chained, content_hash

_KINDS = {
    "s": ("System", ""),
    "c": ("ToolCatalog", ""),
    "u": ("Turn", "user"),
    "a": ("Turn", "assistant"),
    "t": ("Turn", "tool"),
    "r": ("Reasoning", "assistant"),
}


def prompt(text: str) -> tuple[Block, ...]:
    """`s1 u1 a1`: a block a word, of 10 tokens; its letter is the kind, the whole word the content."""
    words = text.split()
    contents = [content_hash("", word.encode()) for word in words]
    chains = list(accumulate(contents, chained, initial=ROOT))[1:]
    return tuple(
        Block(*_KINDS[w[0]], content, chain, 40, 10)  # type: ignore[arg-type]
        for w, content, chain in zip(words, contents, chains, strict=True)
    )


@pytest.mark.parametrize(
    ("before", "now", "why", "figures"),
    [
        ("c1 s1 u1", "c1 s1 u1", "none", (0, 30, 0)),
        ("c1 s1 u1", "c1 s1 u1 a1 t1", "append", (20, 30, 0)),
        ("c1 s1 u1 r1 a1 t1", "c1 s1 u1 a1 t1 a2 u2", "dropped reasoning", (40, 30, 30)),
        ("c1 s1 u1 a1 u2 a2 u3", "c1 s1 u9", "compaction", (10, 20, 50)),
        ("c1 s1 u1 a1 u2 a2", "c1 s1 u1 a1 u9", "abandoned branch", (10, 40, 20)),
        ("c1 s1 u1 a1 u2", "c1 s1 u9 a1 u2 a2", "edit", (40, 20, 30)),
        ("c1 s1 u1 a1", "c2 s1 u1 a1 u2", "edit", (50, 0, 40)),
    ],
    ids=["retry", "append", "reasoning", "compaction", "abandoned", "edit", "edit-of-the-tools"],
)
def test_what_became_of_a_prompt(before: str, now: str, why: str, figures: tuple[int, int, int]) -> None:
    graph = SessionGraph()
    graph.observe("a", prompt(before), 0)
    delta = graph.observe("a", prompt(now), 1)
    assert (delta.divergence, (delta.new, delta.reused, delta.lost)) == (why, figures)
    graph.check()


def test_siblings_fork_from_each_other_and_the_parent_joins() -> None:
    graph = SessionGraph()
    graph.observe("main", prompt("c1 s1 u1"), 0)
    first = graph.observe("x", prompt("c2 s2 u2"), 1, parent="main")
    second = graph.observe("y", prompt("c2 s2 u3"), 1, parent="main")
    joined = graph.observe("main", prompt("c1 s1 u1 a1 t1"), 9)
    assert (first.divergence, first.base) == ("append", None)
    assert (second.divergence, second.base, second.reused) == ("fork", "x", 20)
    assert (joined.divergence, joined.base) == ("join", "main")
    assert graph.observe("main", prompt("c1 s1 u1 a1 t1 a2"), 10).divergence == "append"


def test_what_an_engine_counted_is_what_is_reused_next_time() -> None:
    """10 tokens of 40 bytes each were estimated; the engine counted 15, of all the prompts that share the prefix."""
    graph = SessionGraph()
    graph.observe("a", prompt("c1 s1 u1"), 0)
    assert graph.reported("a", 30, 45)
    delta = graph.observe("a", prompt("c1 s1 u1 a1"), 1)
    assert (delta.reused, delta.new) == (45, 10)


@pytest.mark.parametrize(
    ("session", "n_bytes", "tokens"), [("b", 30, 30), ("a", 0, 5), ("a", 30, 61), ("a", 640, 9)]
)
def test_reports_that_cannot_be_true_change_nothing(session: str, n_bytes: int, tokens: int) -> None:
    graph = SessionGraph()
    graph.observe("a", prompt("c1 s1 u1"), 0)
    assert not graph.reported(session, n_bytes, tokens)
    assert graph.observe("a", prompt("c1 s1 u1"), 1).reused == 30


_MAIN, _CHILD = "c1 s1 u1", "c2 s2"


@pytest.mark.parametrize(
    ("others", "then", "found"),
    [
        ([f"{_CHILD} u2"], f"{_MAIN} a1 t1", ("join", True)),
        ([f"{_CHILD} u2", f"{_CHILD} u3"], f"{_MAIN} a1 t1", ("join", True)),
        ([f"{_CHILD} u2"], f"{_MAIN} a1 u4", ("append", False)),
        (["c1 s1 u2"], f"{_MAIN} a1 t1", ("append", False)),
    ],
    ids=["a-child", "siblings", "no-tool-returned", "same-tools-and-system-is-no-child"],
)
def test_a_join_is_inferred_where_structure_says_so(
    others: list[str], then: str, found: tuple[str, bool]
) -> None:
    graph = SessionGraph()
    graph.observe("main", prompt(_MAIN), 0)
    for i, text in enumerate(others):
        graph.observe(str(i), prompt(text), 1)
    joined = graph.observe("main", prompt(then), 2)
    assert (joined.divergence, joined.inferred) == found


def test_no_parent_is_inferred_between_two_that_could_be() -> None:
    graph = SessionGraph()
    graph.observe("main", prompt(_MAIN), 0)
    graph.observe("other", prompt("c1 s1 u9"), 1)
    graph.observe("child", prompt(f"{_CHILD} u2"), 2)
    assert graph.observe("main", prompt(f"{_MAIN} a1 t1"), 3).divergence == "append"


def test_of_siblings_the_one_with_the_longest_prefix_is_the_base() -> None:
    """Also where another one has the deeper anchor, and another one still was the last to come."""
    graph = SessionGraph()
    words = [f"u{i}" for i in range(100)]
    graph.observe("long", prompt(" ".join(words)), 0)
    graph.observe("short", prompt(" ".join([*words[:70], "a1"])), 1)
    graph.observe("last", prompt(" ".join([*words[:20], "a2"])), 2)
    fork = graph.observe("fork", prompt(" ".join([*words[:90], "a3"])), 3)
    assert (fork.base, fork.reused) == ("long", 900)


@pytest.mark.parametrize(
    ("other", "now", "found"),
    [
        ("u1 u2 u3 a4 a5", "u1 u2 u3 a4 a5 u6", ("other", 50)),
        ("u1 u2 u9", "u1 u2 u5", ("own", 20)),
        ("u1 u2 u3", "u1 u2 u3 u4", ("own", 30)),
    ],
    ids=["other-went-further", "equal-after-a-step-back", "equal"],
)
def test_the_base_is_the_session_itself_unless_another_has_more(
    other: str, now: str, found: tuple[str, int]
) -> None:
    graph = SessionGraph()
    graph.observe("own", prompt("u1 u2 u3"), 0)
    graph.observe("other", prompt(other), 1)
    delta = graph.observe("own", prompt(now), 2)
    assert (delta.base, delta.reused) == found


def test_a_merged_boundary_is_never_taken_for_reasoning() -> None:
    """u1 r1 and u2 r2 were merged: what is gone is more than reasoning, and how much reasoning is not known."""
    graph = SessionGraph(max_blocks=8)
    graph.observe("a", prompt("c1 s1 u1 r1 u2 r2 u3 a3 u4 a4"), 0)
    delta = graph.observe("a", prompt("c1 s1 u3 a3 u4 a4 u5"), 1)
    assert (delta.divergence, delta.reasoning) == ("compaction", 0)


def test_reasoning_that_only_moved_is_not_freed() -> None:
    graph = SessionGraph()
    graph.observe("a", prompt("c1 s1 u1 r1 a1 r2 a2"), 0)
    assert graph.observe("a", prompt("c1 s1 u9 r1 a1 a2"), 1).reasoning == 10


def test_a_shared_prefix_outlives_the_one_who_sent_it_last() -> None:
    graph = SessionGraph()
    for i in range(6):
        graph.observe(str(i), prompt(f"c1 s1 u{i}"), i)
    for i in range(5, 0, -1):
        graph.remove(str(i))
    delta = graph.observe("new", prompt("c1 s1 u9"), 9)
    assert (delta.base, delta.reused) == ("0", 20)
    graph.check()


@pytest.mark.parametrize(
    ("asked", "session", "confidence"),
    [("c1 s1 u1 a1 u2", "a", 1.0), ("c1 s1 u1 u7", "a", 0.5), ("c1 s1 u8", "a", 0.0), ("c9 u1", None, 0.0)],
    ids=["goes-on", "half", "only-the-head", "unknown"],
)
def test_a_session_is_inferred_from_its_prefix(asked: str, session: str | None, confidence: float) -> None:
    graph = SessionGraph()
    graph.observe("a", prompt("c1 s1 u1 a1"), 0)
    found = graph.infer(prompt(asked))
    assert (found.session if found else None) == session
    assert (found.confidence if found else 0.0) == confidence


def test_the_oldest_goes_at_the_cap_and_is_counted() -> None:
    graph = SessionGraph(max_sessions=2)
    for i in range(3):
        graph.observe(str(i), prompt(f"u{i}"), i)
    assert ("0" in graph, len(graph), graph.evicted) == (False, 2, 1)
    assert graph.infer(prompt("u0")) is None


def test_idle_sessions_expire_and_others_stay() -> None:
    graph = SessionGraph()
    graph.observe("a", prompt("u1"), 0)
    graph.observe("b", prompt("u2"), 50)
    assert graph.expire(100, 60) == ["a"]
    assert "b" in graph


@pytest.mark.parametrize("n", [9, 40, 1000])
def test_a_merged_session_still_appends_without_loss(n: int) -> None:
    graph = SessionGraph(max_blocks=8)
    long = "c1 s1 " + " ".join(f"u{i}" for i in range(n))
    graph.observe("a", prompt(long), 0)
    graph.check()
    delta = graph.observe("a", prompt(long + " a1"), 1)
    assert (delta.divergence, delta.new, delta.lost) == ("append", 10, 0)


_WORDS = st.lists(st.sampled_from(["s1", "c1", "u1", "u2", "a1", "a2", "t1", "r1"]), min_size=1, max_size=30)


@given(_WORDS, _WORDS)
def test_appending_never_loses(first: list[str], more: list[str]) -> None:
    graph = SessionGraph(max_blocks=8)
    graph.observe("a", prompt(" ".join(first)), 0)
    delta = graph.observe("a", prompt(" ".join(first + more)), 1)
    assert (delta.lost, delta.new, delta.reused) == (0, 10 * len(more), 10 * len(first))


@given(st.lists(st.tuples(st.integers(0, 30), _WORDS), min_size=1, max_size=8))
def test_of_the_last_prompt_all_is_either_reused_or_lost(steps: list[tuple[int, list[str]]]) -> None:
    """However often its boundaries were merged, and wherever it goes back to: never more reused than is the same."""
    graph, last = SessionGraph(max_blocks=8), list[str]()
    for keep, more in steps:
        words = last[:keep] + more
        delta = graph.observe("a", prompt(" ".join(words)), 0)
        same = next(
            (i for i, (x, y) in enumerate(zip(last, words, strict=False)) if x != y),
            min(len(last), len(words)),
        )
        assert delta.reused + delta.lost == 10 * len(last)
        assert delta.reused <= 10 * same
        assert delta.reused == 10 * same or same < len(last)
        graph.check()
        last = words


@given(_WORDS, _WORDS)
def test_chains_are_equal_exactly_where_prefixes_are(one: list[str], two: list[str]) -> None:
    pairs = zip(prompt(" ".join(one)), prompt(" ".join(two)), strict=False)
    for n, (a, b) in enumerate(pairs, start=1):
        assert (a.chain == b.chain) is (one[:n] == two[:n])


_STEPS = st.lists(
    st.tuples(st.sampled_from("abcdef"), _WORDS, st.floats(0, 100), st.sampled_from([None, "a", "b"]))
    | st.tuples(st.floats(0, 100), st.floats(0, 50)),
    max_size=25,
)


@given(_STEPS)
def test_invariants_hold_whatever_comes(steps: list[tuple[object, ...]]) -> None:
    graph = SessionGraph(max_sessions=3, max_blocks=8)
    for step in steps:
        if len(step) == 2:
            graph.expire(*step)  # type: ignore[arg-type]
        else:
            name, words, now_s, parent = step
            delta = graph.observe(name, prompt(" ".join(words)), now_s, parent=parent)  # type: ignore[arg-type]
            assert delta.new + delta.reused == 10 * len(words)  # type: ignore[arg-type]
        graph.check()


@pytest.mark.parametrize(("field", "value"), [("max_sessions", 0), ("max_blocks", 7)])
def test_bounds_that_hold_nothing_are_refused(field: str, value: int) -> None:
    with pytest.raises(InvalidInput, match=field):
        SessionGraph(**{field: value})


def test_its_own_prompt_counts_where_another_session_has_the_shorter_prefix() -> None:
    graph = SessionGraph()
    words = [f"u{i}" for i in range(20)]
    graph.observe("a", prompt(" ".join(words)), 0)
    graph.observe("b", prompt(" ".join([*words[:8], "u99"])), 1)
    assert graph.observe("a", prompt(" ".join([*words[:14], "u77"])), 2).reused == 140
