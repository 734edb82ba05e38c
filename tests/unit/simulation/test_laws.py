"""Laws that hold for any workload under any policy: nothing is lost, order is kept, nothing depends on the future."""

from collections.abc import Sequence
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.simulation import (
    ClosedLoop,
    Ended,
    Gaps,
    OpenLoop,
    Policy,
    ReplicaView,
    Result,
    Setup,
    TurnView,
    Workload,
    simulate,
)
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.workload import Program, TurnId
from tests.unit.simulation.builders import chain, fleet, program, session, turn

#: Turns of a session: (blocks that the prompt grows by, answer's tokens, gap, a person spoke).
TURNS = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 30), st.sampled_from([0.0, 0.3, 7.0, 60.0]), st.booleans()),
    min_size=1,
    max_size=5,
)
#: Programs: the root's turns, and sub-agents that its first turn starts and its second one waits for.
PROGRAMS = st.lists(st.tuples(TURNS, st.lists(TURNS, max_size=3)), min_size=1, max_size=8)
Drawn = list[tuple[int, int, float, bool]]


def turns_of(drawn: Drawn, first: int, *, parent: str | None = None, joins: Sequence[TurnId] = ()) -> list:
    found, n_blocks = [], 0
    for index, (grown, output, gap_s, person) in enumerate(drawn):
        n_blocks += grown
        after = [TurnId(parent, 0)] if parent and not index else joins if index == 1 else ()
        kind = "human" if person and not parent and not after else "tool"
        found.append(turn(index, n_blocks, first=first, output=output, gap_s=gap_s, kind=kind, after=after))
    return found


def programs_of(drawn: list[tuple[Drawn, list[Drawn]]]) -> list[Program]:
    found = []
    for number, (root, children) in enumerate(drawn):
        joins = [TurnId(f"c{i}", len(child) - 1) for i, child in enumerate(children)]
        found.append(
            program(
                f"p{number}",
                session("root", turns_of(root, 0, joins=joins)),
                *(
                    session(f"c{i}", turns_of(child, 1_000 * (i + 1), parent="root"), parent="root")
                    for i, child in enumerate(children)
                ),
                start_s=3.0 * number,
            )
        )
    return found


#: Two replicas that hold about two of the largest contexts each: caches overflow, requests queue and are preempted.
SETUP = Setup(fleet=fleet(2, n_blocks=140, max_seqs=3, batch=64), load=ClosedLoop(live=4), seed=7)


def served(programs: list[Program], setup: Setup, name: str) -> Result:
    workload = Workload(programs, setup.fleet, setup.gaps)
    return simulate(workload, setup, BASELINES[name](setup.fleet, setup.seed))


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=30, deadline=None)
@given(drawn=PROGRAMS, open_loop=st.booleans(), announce=st.booleans())
def test_every_turn_is_answered_once_after_all_that_it_waits_for(
    name: str, drawn: list[tuple[Drawn, list[Drawn]]], open_loop: bool, announce: bool
) -> None:
    programs = programs_of(drawn)
    setup = replace(SETUP, load=OpenLoop() if open_loop else SETUP.load, announce_ends=announce)
    result = served(programs, setup, name)
    ends = {one.id: one for one in result.turns}
    assert len(ends) == len(result.turns) == sum(1 for p in programs for _ in p.turns())
    for one in programs:
        for owner, item in one.turns():
            record = ends[f"{one.id}/{owner.id}/{item.index}"]
            inputs = [*item.after, *([TurnId(owner.id, item.index - 1)] if item.index else [])]
            ready_s = max((ends[f"{one.id}/{i.session}/{i.turn}"].finished_s for i in inputs), default=None)
            if ready_s is not None:
                gap_s = setup.gaps.gap_s(item) if item.index else 0.0
                assert record.arrived_s == pytest.approx(ready_s + gap_s)
            assert record.arrived_s <= record.placed_s < record.first_token_s <= record.finished_s
            assert record.recomputed_tokens <= record.prompt_tokens - record.cached_tokens
            assert record.output_tokens == item.output_tokens
    assert all(task.finished for task in result.tasks)
    assert all(run.finished for run in result.runs)
    assert len(result.runs) == len(programs) == result.started


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=10, deadline=None)
@given(drawn=PROGRAMS)
def test_equal_seeds_give_equal_results(name: str, drawn: list[tuple[Drawn, list[Drawn]]]) -> None:
    programs = programs_of(drawn)
    assert served(programs, SETUP, name) == served(programs, SETUP, name)


@settings(max_examples=30, deadline=None)
@given(drawn=st.lists(TURNS, min_size=1, max_size=3))
def test_nothing_is_faster_than_alone_and_a_chain_alone_is_its_path(drawn: list[Drawn]) -> None:
    roomy = fleet(1, n_blocks=10_000)
    programs = [chain(f"p{i}", *turns_of(one, 0)) for i, one in enumerate(drawn)]
    alone = served(programs, Setup(fleet=roomy, load=ClosedLoop(live=1)), "least-load")
    assert [one.slowdown for one in (*alone.tasks, *alone.runs)] == pytest.approx(
        [1.0] * (len(alone.tasks) + len(alone.runs))
    )
    together = served(programs, Setup(fleet=roomy, load=ClosedLoop(live=3)), "least-load")
    assert all(one.slowdown >= 1 - 1e-9 for one in (*together.tasks, *together.runs))


class Diary:
    """Another policy, with everything it was shown, in order."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.seen: list[tuple[float, object]] = []
        self.decided: list[tuple[float, str, int | None]] = []

    def ready(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        return self._policy.ready(replicas, now_s)

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        self.seen.append((now_s, tuple(waiting)))
        return self._policy.order(waiting, now_s)

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        self.seen.append((now_s, (turn, tuple((replace(one), one.stats) for one in replicas))))
        index = self._policy.place(turn, replicas, now_s)
        self.decided.append((now_s, turn.id, index))
        return index

    def on_finish(self, ended: Ended) -> None:
        self.seen.append((ended.finished_s, ended))
        self._policy.on_finish(ended)

    def on_end(self, program: str, now_s: float) -> None:
        self.seen.append((now_s, program))
        self._policy.on_end(program, now_s)

    def wake_s(self, now_s: float) -> float | None:
        return self._policy.wake_s(now_s)


def other_future(one: Program, at_s: float) -> Program:
    """The same program up to its first turn; then longer gaps, other prompts and no end in sight."""
    root = one.sessions[0]
    first = root.turns[0]
    later = [turn(i, 30 + i, first=first.runs[0][0], output=50, gap_s=at_s) for i in (1, 2)]
    return program(one.id, session(root.id, [first, *later]), start_s=one.start_s)


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=20, deadline=None)
@given(drawn=st.lists(TURNS, min_size=2, max_size=6))
def test_a_policy_sees_and_decides_the_same_until_the_future_differs(name: str, drawn: list[Drawn]) -> None:
    """Two worlds that agree on the first turns and differ in all that follows, which comes 40 s after their ends."""
    here = [chain(f"p{i}", *turns_of([*one[:1], (3, 9, 40.0, False)], 0)) for i, one in enumerate(drawn)]
    there = [other_future(one, 45.0) for one in here]
    diaries = []
    setup = replace(SETUP, load=ClosedLoop(live=len(here)), shuffle=False, announce_ends=False)
    for world in (here, there):
        diary = Diary(BASELINES[name](setup.fleet, 0))
        result = simulate(Workload(world, setup.fleet, Gaps()), setup, diary)
        until_s = min(one.finished_s for one in result.turns) + 39.0
        diaries.append(
            ([s for s in diary.seen if s[0] < until_s], [d for d in diary.decided if d[0] < until_s])
        )
    assert diaries[0] == diaries[1]


def test_a_turn_s_view_says_nothing_of_its_answer_or_of_what_comes_after() -> None:
    """What a view holds is what its request's headers and body hold; the blocks of the answer are not in it."""
    names = {field.name for field in fields(TurnView)}
    assert names == {
        "agent", "arrived_s", "hints", "id", "index", "kind", "parent", "program", "prompt_tokens", "retry", "runs",
        "session",
    }  # fmt: skip
    seen: list[TurnView] = []

    class Watching(Diary):
        def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
            seen.append(turn)
            return super().place(turn, replicas, now_s)

    setup = Setup(fleet=fleet(), load=ClosedLoop(live=1))
    programs = [chain("a", turn(0, 10, output=40), turn(1, 20))]
    simulate(
        Workload(programs, setup.fleet, Gaps()), setup, Watching(BASELINES["least-load"](setup.fleet, 0))
    )
    assert [view.runs for view in seen] == [((0, 10),), ((0, 20),)]
    assert [view.hints for view in seen] == [None, None]
