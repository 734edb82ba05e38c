"""program.keeping: a scheduler that was given the pieces of another one decides as that one does."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.program import events as ev
from agentic_serving.program.absence import Absence
from agentic_serving.program.keeping import keep, learned, restore
from agentic_serving.program.prompt import Prompt
from tests.unit.program.keeping.host import PROGRAM, Host, name, prompt, serve

#: Of what is known of a session to what comes next, in seconds.
_GAPS_S = st.sampled_from([1, 2, 5, 17, 40, 100, 400])

#: As many boundaries as are kept of a prompt: of longer ones a fork finds less. Beyond, a session is compacted.
_MOST_PIECES = 10


def handed_over(host: Host, replicas: dict[str, int], now_s: float) -> Host:
    """A new process that was given everything."""
    fresh = Host(replicas)
    pieces = [keep.session(host.world, one) for one in reversed(keep.sessions(host.world))]
    known = [piece for piece in pieces if piece is not None]
    told = keep.learned(host.world, now_s)
    learned.learned(fresh.world, told)
    for replica in replicas:
        assert learned.replica(fresh.world, told, replica)
    for piece in known:
        assert restore.session(fresh.world, piece, now_s)
        for home in piece.homes:
            assert restore.home(fresh.scheduler.ledger, piece.name, home)
        if piece.away is not None:
            restore.rest(fresh.scheduler.residents, piece.name, piece.away, now_s)
    for replica, (_, held, _, _) in told.replicas.items():
        restore.remainder(fresh.scheduler.ledger, replica, held)
    fresh.check()
    return fresh


class Story:
    """Sessions that grow, fork, and go away, told to any number of hosts."""

    def __init__(self) -> None:
        self.prompts: dict[str, list[tuple[str, int]]] = {}
        self.now_s = 0.0

    def next(self, session: str, tokens: int, fork: str | None) -> Prompt:
        pieces = self.prompts.get(session)
        if pieces is None:
            known = self.prompts.get(fork) if fork else None
            pieces = list(known) if known else [("system", 1000)]
        if len(pieces) > _MOST_PIECES:
            pieces = [("system", 1000), (f"summary of {session}", 2000)]
        self.prompts[session] = [*pieces, (f"{session}{len(pieces)}", tokens)]
        return prompt(self.prompts[session])


@st.composite
def turns(draw: st.DrawFn) -> list[tuple[int, str, int, str | None, int, bool]]:
    """(gap, session, new tokens, session that it forks from, way back to its parent, a person's words)."""
    sessions = st.sampled_from("abcdef")
    return draw(
        st.lists(
            st.tuples(
                _GAPS_S,
                sessions,
                st.sampled_from([500, 3000, 9000, 20000]),
                st.none() | sessions,
                st.integers(0, 1),
                st.booleans(),
            ),
            min_size=1,
            max_size=25,
        )
    )


@pytest.fixture(autouse=True, scope="module")
def steady_chances() -> Iterator[None]:
    """Chances of return that do not change with what is learned: the first process asked for them when it knew less.

    Which of two nearly equal replicas is the emptiest would else depend on when each was looked at.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Absence, "_chance", lambda _self, _program, away_s: 1 / (1 + away_s / 60))
        yield


@settings(max_examples=100, deadline=None)
@given(turns(), turns(), st.booleans())
def test_both_decide_alike_from_then_on(
    before: list[tuple[int, str, int, str | None, int, bool]],
    after: list[tuple[int, str, int, str | None, int, bool]],
    forks: bool,
) -> None:
    """Where caches are large enough for all, to the token: which replica, why, how much is cached.

    Of several sessions with an equally long prefix either may be told to share it: with forks the replica may be another one of equals.
    """
    replicas = {"r0": 2_000_000, "r1": 2_000_000, "r2": 2_000_000}
    story, host = Story(), Host(replicas)
    for gap_s, session, tokens, fork, child, human in before:
        story.now_s += gap_s
        blocks = story.next(session, tokens, fork if forks else None)
        parent = fork if forks and child and fork != session else None
        serve(host, session, blocks, story.now_s, parent=parent, human=human)
    other = handed_over(host, replicas, story.now_s)
    for gap_s, session, tokens, fork, _, human in after:
        story.now_s += gap_s
        blocks = story.next(session, tokens, fork if forks else None)
        newcomer = name(session) not in host.sessions
        (one_id, (one,)), (other_id, (same,)) = (
            each.arrive(session, blocks, story.now_s, human=human) for each in (host, other)
        )
        assert isinstance(one, ev.Admit)
        assert isinstance(same, ev.Admit)
        assert (one.reason, one.uncached_tokens) == (same.reason, same.uncached_tokens)
        assert newcomer or forks or one.replica == same.replica
        if one.replica is not None:
            other.scheduler.handle(ev.Placed(other_id, one.replica), story.now_s)
        host.end(one_id, session, blocks.n_bytes, story.now_s)
        other.end(other_id, session, blocks.n_bytes, story.now_s)
    other.check()


@settings(max_examples=100, deadline=None)
@given(turns(), st.booleans())
def test_full_caches_are_believed_to_hold_the_same(
    before: list[tuple[int, str, int, str | None, int, bool]], forks: bool
) -> None:
    """By session and replica, where much was evicted; what was shared may be counted once more, and so fit less."""
    replicas = {"r0": 40_000, "r1": 40_000}
    story, host = Story(), Host(replicas)
    for gap_s, session, tokens, fork, _, human in before:
        story.now_s += gap_s
        serve(host, session, story.next(session, tokens, fork if forks else None), story.now_s, human=human)
    other = handed_over(host, replicas, story.now_s)
    for session in keep.sessions(host.world):
        here, there = (dict(one.scheduler.ledger.where(session)) for one in (host, other))
        assert here == there if not forks else all(there.get(one, 0) <= here[one] for one in here)
    for replica in replicas:
        held = [
            one.scheduler.ledger.busy(replica) + one.scheduler.ledger.idle(replica) for one in (host, other)
        ]
        assert held[0] == held[1]


def test_what_was_learned_is_known() -> None:
    """Chances of return, trust, speeds and rates give the same answers."""
    host = Host({"r0": 100_000})
    model = host.scheduler.absence.gaps
    for i in range(300):
        model.learn(PROGRAM, "any", 1.0 + i % 7)
        model.learn(PROGRAM, "human", 100.0 + i)
    model.learn_end(PROGRAM, "any")
    host.rates[PROGRAM].learn(1000, 300)
    host.scheduler.service.begin_task("run", 0.0)
    host.scheduler.service.charge("run", 5000, 1.0)
    host.scheduler.service.begin_task("run", 10.0)
    other = handed_over(host, {"r0": 100_000}, 10.0)
    for program in (PROGRAM, "another"):
        for cause in ("any", "human", "Bash"):
            for elapsed_s in (0.0, 5.0, 200.0):
                chances = [
                    one.scheduler.absence.gaps.chance(program, cause, elapsed_s, 60.0)
                    for one in (host, other)
                ]
                assert chances[1] == pytest.approx(chances[0])
    assert other.rates[PROGRAM].tokens_per_byte == host.rates[PROGRAM].tokens_per_byte
    assert other.scheduler.service.tokens_in(7.0) == host.scheduler.service.tokens_in(7.0) > 0
    other.scheduler.absence.gaps.check()


@pytest.mark.parametrize("away_s", [0.0, 5.0, 40.0, 119.0, 500.0])
def test_what_absent_sessions_need_is_known(away_s: float) -> None:
    """Of each cache, by how long they have been away; a newcomer finds as much room as before."""
    replicas = {"r0": 200_000, "r1": 200_000}
    story, host = Story(), Host(replicas)
    for i, session in enumerate("abcd"):
        serve(host, session, story.next(session, 5000 * (i + 1), None), float(i))
    now_s = 3.0 + away_s
    host.scheduler.handle(ev.Tick(), now_s)
    other = handed_over(host, replicas, now_s)
    needs = [[one.scheduler.residents.needed(replica) for replica in replicas] for one in (host, other)]
    assert needs[1] == pytest.approx(needs[0], abs=1e-6)
    assert (sum(needs[0]) > 1) == (away_s < 120)
    weights = [
        [one.scheduler.absence.weight(name(session), 7.0) for session in "abcd"] for one in (host, other)
    ]
    assert weights[0] == weights[1]
    assert min(weights[0]) > 0


def test_half_of_a_long_prompt_is_recognised() -> None:
    """Kept boundaries are denser at the end: a cut in the middle loses at most what lies before the next one."""
    pieces = [("system", 1000), *((f"turn {i}", 500) for i in range(100))]
    host = Host({"r0": 200_000})
    serve(host, "a", prompt(pieces), 0.0)
    other = handed_over(host, {"r0": 200_000}, 1.0)
    reused = [
        one.world.make_graph(name("a")).observe(name("a"), prompt([*pieces[:90], ("new", 10)]), 2.0).reused
        for one in (host, other)
    ]
    assert reused[0] == 45_500
    assert 0.7 * reused[0] <= reused[1] <= reused[0]


def test_a_cache_that_is_smaller_than_it_says_is_known() -> None:
    host = Host({"r0": 100_000})
    host.scheduler.ledger._replicas["r0"].believe(0.75)
    other = handed_over(host, {"r0": 100_000}, 0.0)
    assert other.scheduler.ledger.capacity("r0") == host.scheduler.ledger.capacity("r0") == 75_000
