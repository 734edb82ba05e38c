"""program.sessions: trees in any order of arrival, who is meant, accounts, ends, caps; laws over any traffic."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentic_serving.errors import InvalidInput
from agentic_serving.program.graph import Match
from agentic_serving.program.identity import Identity
from agentic_serving.program.sessions import Arrival, Gone, Sessions
from agentic_serving.program.tree import MAX_DEPTH


def turn(session: str | None, parent: str | None = None, run: str | None = None, **more: object) -> Identity:
    """A turn; a session without parent is its own run unless told otherwise."""
    made = Identity(program="p", client="generic", api="chat", confidence=1.0 if session else 0.0, tools=1)
    known = run if run or parent else session
    return replace(made, session=session, parent=parent, run=known, **more)  # type: ignore[arg-type]


def after(*turns: Identity) -> Sessions:
    sessions = Sessions()
    for i, identity in enumerate(turns):
        sessions.arrive(identity, i)
        sessions.check()
    return sessions


def run_of(sessions: Sessions, session: str) -> str:
    state = sessions.session(session)
    assert state is not None
    return state.run


# --- Trees.


def test_a_grandchild_belongs_to_the_root_in_whatever_order_they_come() -> None:
    family = [turn("root"), turn("child", "root"), turn("grandchild", "child")]
    orders = [family, family[::-1], [family[1], family[2], family[0]], [family[2], family[0], family[1]]]
    for order in orders:
        sessions = after(*order)
        assert {run_of(sessions, name) for name in ("root", "child", "grandchild")} == {"root"}


def test_runs_that_turn_out_to_be_one_are_told() -> None:
    sessions = after(turn("grandchild", "child"))
    sessions.finish("grandchild", 1, computed_tokens=10)
    assert run_of(sessions, "grandchild") == "child"
    arrival = sessions.arrive(turn("child", "root"), 2)
    assert (arrival.run, arrival.joined) == ("root", ("child",))
    state = sessions.run("root")
    assert state is not None
    assert (state.sessions, state.attained_tokens, state.in_flight, state.turns) == (3, 10, 1, 2)


def test_a_child_that_knows_its_run_needs_no_parent_there() -> None:
    """Claude Code's nested agent, seen before the agent that started it."""
    sessions = after(turn("r/b", "r/a", "r"))
    assert run_of(sessions, "r/b") == "r"
    assert sessions.arrive(turn("r/a", "r", "r"), 2).joined == ()
    state = sessions.session("r/a")
    assert state is not None
    assert (state.parent, state.children) == ("r", ("r/b",))


def test_a_parents_own_word_counts_more_than_its_childs() -> None:
    sessions = after(turn("c", "b", "r"), turn("b", "a", "r"))
    state = sessions.session("b")
    assert state is not None
    assert (state.parent, run_of(sessions, "c")) == ("a", "r")
    sessions.check()


@pytest.mark.parametrize(
    "turns",
    [
        [turn("a", "b"), turn("b", "a")],
        [turn("a", "b"), turn("b", "c"), turn("c", "a")],
        [turn("a", "a")],
        [turn("a", "b", "a")],
        [turn("a", "b", "r"), turn("b", "c", "a"), turn("r", "a")],
    ],
    ids=["two", "three", "self", "the-run-is-the-child", "by-the-run"],
)
def test_parents_in_a_circle_end_somewhere(turns: list[Identity]) -> None:
    sessions = after(*turns, *turns)
    assert len({run_of(sessions, identity.session or "") for identity in turns}) == 1


def test_a_chain_of_parents_without_end_is_cut() -> None:
    sessions = after(*(turn(f"s{i + 1}", f"s{i}") for i in range(200)))
    assert sessions.refused > 0
    downwards = after(*(turn(f"s{i + 1}", f"s{i}") for i in reversed(range(200))))
    assert downwards.refused > 0
    at_the_limit = after(*(turn(f"s{i + 1}", f"s{i}") for i in range(MAX_DEPTH)))
    assert (at_the_limit.refused, run_of(at_the_limit, f"s{MAX_DEPTH}")) == (0, "s0")


def test_a_strangers_word_moves_no_session_that_has_come() -> None:
    sessions = after(turn("mine"), turn("child", "mine"))
    assert sessions.arrive(turn("his", "mine", "his-run"), 9).run == "mine"  # he may join it
    assert sessions.arrive(turn("child", "his-run"), 9).run == "mine"  # its parent is known
    assert run_of(sessions, "mine") == "mine"
    sessions.check()


# --- Turns.


def test_turns_tasks_and_tokens_are_counted() -> None:
    sessions = Sessions()
    for kind, tokens in (("human", 100), ("tool", 10), ("tool", 1)):
        sessions.arrive(turn("s", kind=kind), 0)
        sessions.finish("s", 0, computed_tokens=tokens)
    sessions.arrive(turn("child", "s"), 0)
    sessions.finish("child", 0, computed_tokens=1000)
    state = sessions.run("s")
    assert state is not None
    assert (state.turns, state.tasks, state.attained_tokens, state.task_tokens) == (4, 1, 1111, 1111)
    assert sessions.arrive(turn("s"), 0).turn == 3
    state = sessions.run("s")
    assert state is not None
    assert (state.tasks, state.attained_tokens, state.task_tokens) == (2, 1111, 0)


def test_time_and_accounts_never_go_back() -> None:
    sessions = Sessions(idle_s=100)
    sessions.arrive(turn("s"), 500)
    sessions.finish("s", 100, computed_tokens=-5)
    state = sessions.session("s")
    assert state is not None
    assert (state.seen_s, state.attained_tokens) == (500, 0)
    assert sessions.expire(300) == ()


def test_side_requests_are_no_turns() -> None:
    sessions = Sessions()
    title = sessions.arrive(turn("s", kind="side", side="title", tools=0), 0)
    first = sessions.arrive(turn("s"), 0, chain=1)
    assert (title.kind, title.turn, title.new, first.turn, first.new, first.retry) == (
        "side",
        0,
        True,
        0,
        False,
        0,
    )


def test_a_coding_agent_without_its_tools_asks_on_the_side() -> None:
    sessions = Sessions()
    sessions.arrive(turn("s", client="ClaudeCode"), 0)
    aside = sessions.arrive(turn("s", client="ClaudeCode", tools=0), 1)
    assert (aside.kind, aside.side) == ("side", "auxiliary")
    sessions.arrive(turn("generic"), 2)
    assert sessions.arrive(turn("generic", tools=0), 3).kind == "human"


@pytest.mark.parametrize(
    ("finished", "counted", "chain", "retry"),
    [
        (False, False, 7, True),
        (True, False, 7, False),
        (True, True, 7, True),
        (False, True, 8, False),
        (False, True, 0, True),
        (False, False, 0, False),
    ],
    ids=["same-in-flight", "same-again", "counted", "counted-but-new", "counted-unread", "unread"],
)
def test_what_is_a_retry(finished: bool, counted: bool, chain: int, retry: bool) -> None:
    sessions = Sessions()
    sessions.arrive(turn("s"), 0, chain=7)
    if finished:
        sessions.finish("s", 1)
    again = sessions.arrive(turn("s", retry=counted), 2, chain=chain)
    state = sessions.session("s")
    assert state is not None
    assert (again.retry > 0, state.turns) == (retry, 1 if retry else 2)


def test_a_retry_whose_first_try_was_never_seen_is_a_turn() -> None:
    assert Sessions().arrive(turn("s", retry=True), 0).retry == 0


# --- Sessions that nobody names.


def unnamed(sessions: Sessions, chain: int, likely: Match | None = None, **more: object) -> Arrival:
    return sessions.arrive(turn(None, **more), 0, chain=chain, likely=likely)  # type: ignore[arg-type]


def test_what_nobody_names_is_gone_on_with_if_it_is_likely() -> None:
    sessions = Sessions()
    first = unnamed(sessions, 1)
    sessions.finish(first.session, 0)
    assert first.confidence == 0
    next_one = unnamed(sessions, 2, Match(first.session, 100, 0.9))
    assert (next_one.session, next_one.confidence, next_one.turn) == (first.session, 0.9, 1)
    sessions.finish(first.session, 0)
    unlikely = unnamed(sessions, 3, Match(first.session, 100, 0.4))
    assert unlikely.run not in (first.run, "p")


def test_the_same_question_asked_again_is_another_session() -> None:
    sessions = Sessions()
    first = unnamed(sessions, 1)
    sessions.finish(first.session, 0)
    again = unnamed(sessions, 1, Match(first.session, 100, 1.0))
    assert again.run != first.run


def test_branches_at_one_moment_are_siblings_and_not_retries() -> None:
    """512 rollouts of one prompt: none replaces another."""
    sessions = Sessions()
    first = unnamed(sessions, 1)
    others = [unnamed(sessions, chain, Match(first.session, 100, 1.0)) for chain in (1, 1, 2)]
    again = unnamed(sessions, 1, Match(others[0].session, 100, 1.0))
    assert {one.run for one in (*others, again)} == {first.run}
    assert {one.parent for one in (*others, again)} == {first.session}
    assert len({one.session for one in (first, *others, again)}) == 5
    assert not any(one.retry for one in (*others, again))


def test_a_retry_of_what_nobody_names_is_told_by_its_client_only() -> None:
    sessions = Sessions()
    first = unnamed(sessions, 1)
    again = unnamed(sessions, 1, Match(first.session, 100, 1.0), retry=True)
    assert again.session == first.session
    assert again.retry > 0


def test_no_prompt_gets_a_stranger_into_a_session_that_has_a_name() -> None:
    sessions = after(turn("p/named"))
    sessions.finish("p/named", 1)
    assert unnamed(sessions, 2, Match("p/named", 100, 1.0)).session != "p/named"
    other_program = unnamed(sessions, 3)
    sessions.finish(other_program.session, 1)
    intruder = sessions.arrive(
        replace(turn(None), program="q"), 0, likely=Match(other_program.session, 9, 1.0)
    )
    assert intruder.session.startswith("q/~")


def test_an_unnamed_agent_of_a_known_run_stays_in_it() -> None:
    sessions = after(turn("p/r"))
    agent = sessions.arrive(turn(None, "p/r", "p/r"), 1, chain=1)
    sessions.finish(agent.session, 1)
    assert (agent.run, agent.parent, agent.session) == ("p/r", "p/r", "p/r/~1")
    assert (
        sessions.arrive(turn(None, "p/r", "p/r"), 2, chain=2, likely=Match(agent.session, 9, 0.8)).session
        == agent.session
    )


# --- Ends.


def names(gone: Iterable[Gone]) -> set[str]:
    return {one.session for one in gone}


def test_the_last_request_of_a_session_ends_it_and_what_it_started() -> None:
    sessions = after(turn("root"), turn("a", "root"), turn("b", "a"), turn("c", "root"))
    for name in ("root", "a", "b", "c"):
        sessions.finish(name, 5)
    sessions.arrive(turn("a", "root", final=True), 6)
    assert names(sessions.finish("a", 7)) == {"a", "b"}
    sessions.check()
    state = sessions.run("root")
    assert state is not None
    assert (state.sessions, state.in_flight) == (2, 0)
    assert names(sessions.end("root")) == {"root", "c"}
    assert len(sessions) == 0
    assert sessions.end("root") == ()
    assert sessions.finish("c", 8, computed_tokens=5) == ()


def test_a_run_is_idle_when_all_of_it_is() -> None:
    sessions = Sessions(idle_s=100)
    for identity, now_s in ((turn("root"), 0), (turn("early", "root"), 10), (turn("late", "root"), 50)):
        arrival = sessions.arrive(identity, now_s)
        sessions.finish(arrival.session, now_s)
    assert sessions.expire(110) == ()
    assert names(sessions.expire(111)) == {"early"}
    assert "root" in sessions
    assert sessions.expire(151) == (Gone("late", "root", "idle"), Gone("root", "root", "idle"))


def test_what_runs_is_not_idle() -> None:
    sessions = Sessions(idle_s=100)
    sessions.arrive(turn("s"), 0)
    assert sessions.expire(500) == ()
    sessions.finish("s", 500)
    assert sessions.expire(600) == ()
    assert names(sessions.expire(601)) == {"s"}


def test_too_many_sessions_push_out_the_one_idle_longest() -> None:
    sessions = Sessions(max_sessions=64)
    sessions.arrive(turn("busy"), 0)
    gone: list[Gone] = []
    for i in range(70):
        arrival = sessions.arrive(turn(f"s{i}"), i)
        sessions.finish(f"s{i}", i)
        gone += arrival.gone
        sessions.check()
    assert [one.session for one in gone] == [f"s{i}" for i in range(7)]
    assert {one.why for one in gone} == {"evicted"}
    assert (len(sessions), sessions.evicted, "busy" in sessions) == (64, 7, True)


def test_sessions_that_are_all_busy_do_not_stop_the_newest() -> None:
    sessions = Sessions(max_sessions=64)
    for i in range(200):
        arrival = sessions.arrive(turn(f"s{i}", f"parent{i}"), i)
        assert arrival.session in sessions
        assert len(sessions) <= 64
        sessions.check()


def test_the_newest_stays_where_everybody_else_is_busy_too() -> None:
    """16 branches of 4, all busy: as many as eviction passes by, before it comes to the newest."""
    sessions = Sessions(max_sessions=64)
    for i in range(16):
        for depth in range(4):
            sessions.arrive(turn(f"s{i}.{depth}", f"s{i}.{depth - 1}" if depth else None), i)
    assert sessions.arrive(turn("newest"), 20).gone == (Gone("s0.3", "s0.0", "evicted"),)
    assert "newest" in sessions
    sessions.check()


@pytest.mark.parametrize("options", [{"max_sessions": 63}, {"idle_s": 0}, {"idle_s": float("nan")}], ids=str)
def test_bounds_that_cannot_be_kept_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        Sessions(**options)  # type: ignore[arg-type]


# --- Laws.


@st.composite
def families(draw: st.DrawFn) -> tuple[list[Identity], list[Identity]]:
    """A tree of sessions, each of which says the same of itself whenever it comes, in two orders."""
    parents: list[int | None] = [None]
    for i in range(1, draw(st.integers(1, 12))):
        parents.append(draw(st.integers(0, i - 1)))
    knows_run = draw(st.booleans())
    turns = [
        turn(f"s{i}", None if above is None else f"s{above}", "s0" if knows_run else None)
        for i, above in enumerate(parents)
    ]
    return draw(st.permutations(turns)), draw(st.permutations(turns))


@given(families())
def test_the_order_of_arrival_changes_no_run_and_no_parent(
    orders: tuple[list[Identity], list[Identity]],
) -> None:
    one, other = (after(*order) for order in orders)
    for identity in orders[0]:
        name = identity.session or ""
        mine, yours = one.session(name), other.session(name)
        assert mine is not None
        assert yours is not None
        assert (mine.run, mine.parent, mine.children) == ("s0", yours.parent, yours.children)
    assert one.run("s0") == replace(other.run("s0"), started_s=0.0)  # type: ignore[type-var]


NAMES = st.sampled_from([f"s{i}" for i in range(90)])


class Traffic(RuleBasedStateMachine):
    """Any requests in any order, with a cap that binds."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = Sessions(max_sessions=64, idle_s=50)
        self.now_s = 0.0
        self.live: list[str] = []

    @rule(
        session=st.none() | NAMES,
        parent=st.none() | NAMES,
        run=st.none() | NAMES,
        kind=st.sampled_from(["human", "tool", "side"]),
        final=st.booleans(),
        retry=st.booleans(),
        chain=st.integers(0, 3),
        likely=st.none() | st.integers(1, 20),
        step=st.floats(-5, 20),
    )
    def arrive(
        self,
        session: str | None,
        parent: str | None,
        run: str | None,
        kind: str,
        final: bool,
        retry: bool,
        chain: int,
        likely: int | None,
        step: float,
    ) -> None:
        self.now_s += step
        identity = turn(session, parent, run, kind=kind, final=final, retry=retry)
        match = Match(f"{run or 'p'}/~{likely}", 10, 0.9) if likely else None
        arrival = self.sessions.arrive(identity, self.now_s, chain=chain, likely=match)
        assert arrival.session in self.sessions
        assert run_of(self.sessions, arrival.session) == arrival.run
        self.live.append(arrival.session)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), tokens=st.integers(-5, 100))
    def finish(self, data: st.DataObject, tokens: int) -> None:
        place = data.draw(st.integers(0, len(self.live) - 1))
        self.sessions.finish(self.live.pop(place), self.now_s, computed_tokens=tokens)

    @rule(step=st.floats(0, 100))
    def expire(self, step: float) -> None:
        self.now_s += step
        for gone in self.sessions.expire(self.now_s):
            assert gone.session not in self.sessions

    @rule(session=NAMES)
    def end(self, session: str) -> None:
        self.sessions.end(session)

    @invariant()
    def holds(self) -> None:
        self.sessions.check()


Traffic.TestCase.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
TestTraffic = Traffic.TestCase
