"""router.state.filling: what was read becomes what is known, in order, on demand, and whatever it says."""

from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.program import events as ev
from agentic_serving.program.keeping import keep
from agentic_serving.program.keeping.kept import Kept
from agentic_serving.router.state import records
from agentic_serving.router.state.filling import Filling
from tests.unit.program.keeping.host import Host, name, prompt, serve
from tests.unit.router.state.test_records import SESSIONS

REPLICAS = {"r0": 100_000, "r1": 100_000}
_IDLE_S = 1800.0


def written(host: Host) -> list[bytes]:
    pieces = [keep.session(host.world, one) for one in keep.sessions(host.world)]
    return [records.encode(piece, 0.0) for piece in pieces if piece is not None]


def filling(host: Host, raw: list[bytes], now_s: float, *, again: bool = False) -> Filling:
    made = Filling(host.world, offset_s=0.0, now_s=now_s, idle_s=_IDLE_S, again=again)
    made.add(raw)
    return made


def grown(session: str, turns: int) -> list[tuple[str, int]]:
    return [("system", 1000), *((f"{session}{i}", 500) for i in range(turns))]


def known(n_sessions: int = 10) -> Host:
    """Sessions seen one second after another, on two replicas."""
    host = Host(REPLICAS)
    for i in range(n_sessions):
        serve(host, f"s{i}", prompt(grown(f"s{i}", 3)), float(i), human=True)
    return host


def test_the_sessions_seen_last_come_first() -> None:
    host, fresh = known(), Host(REPLICAS)
    steps = filling(fresh, written(host), 10.0).slices(4, lambda: 10.0)
    next(steps)
    assert set(keep.sessions(fresh.world)) == {name(f"s{i}") for i in (6, 7, 8, 9)}
    for _ in steps:
        fresh.check()
    assert keep.sessions(fresh.world) == keep.sessions(host.world)


def test_a_session_that_is_asked_for_comes_with_those_above_it() -> None:
    host, fresh = Host(REPLICAS), Host(REPLICAS)
    serve(host, "root", prompt(grown("root", 2)), 1.0, human=True)
    serve(host, "child", prompt(grown("child", 2)), 2.0, parent="root")
    for i in range(20):
        serve(host, f"s{i}", prompt(grown(f"s{i}", 2)), 3.0 + i)
    some = filling(fresh, written(host), 30.0)
    next(iter(some.slices(2, lambda: 30.0)))
    some.recall(name("child"), 30.0)
    state = fresh.sessions.session(name("child"))
    assert state is not None
    assert (state.run, state.turns) == (name("root"), 1)
    _, (told,) = fresh.arrive("child", prompt(grown("child", 3)), 30.0, parent="root")
    assert isinstance(told, ev.Admit)
    assert (told.reason, told.uncached_tokens) == (ev.Reason.WARM, 500)
    for _ in some.slices(5, lambda: 30.0):
        fresh.check()
    assert len(fresh.sessions) == len(host.sessions)


def test_asking_twice_or_for_nobody_changes_nothing() -> None:
    host, fresh = known(3), Host(REPLICAS)
    some = filling(fresh, written(host), 10.0)
    for asked in (name("s1"), name("s1"), name("nobody"), ""):
        some.recall(asked, 10.0)
    assert some.restored == len(fresh.sessions) == 1


def test_replicas_that_are_seen_later_get_their_sessions() -> None:
    host, fresh = known(), Host({})
    some = filling(fresh, written(host), 10.0)
    for _ in some.slices(100, lambda: 10.0):
        pass
    assert not some.finish(11.0)
    for replica, capacity in REPLICAS.items():
        fresh.scheduler.handle(ev.ReplicaSeen(name=replica, capacity_tokens=capacity), 20.0)
    assert some.finish(20.0)
    fresh.check()
    for i in range(10):
        where = [dict(one.scheduler.ledger.where(name(f"s{i}"))) for one in (host, fresh)]
        assert where[0] == where[1]


def test_a_replica_that_never_comes_is_not_waited_for() -> None:
    fresh = Host({})
    some = filling(fresh, written(known()), 10.0)
    for _ in some.slices(100, lambda: 10.0):
        pass
    assert some.finish(1000.0)
    fresh.scheduler.handle(ev.ReplicaSeen(name="r0", capacity_tokens=1000), 1001.0)
    some.finish(1001.0)
    assert not fresh.scheduler.ledger.where(name("s1"))


def test_sessions_that_were_idle_for_too_long_are_over() -> None:
    fresh = Host(REPLICAS)
    some = filling(fresh, written(known()), 5.0 + _IDLE_S)
    for _ in some.slices(100, lambda: 5.0 + _IDLE_S):
        pass
    assert set(keep.sessions(fresh.world)) == {name(f"s{i}") for i in range(5, 10)}


def test_a_turn_that_came_meanwhile_counts_on() -> None:
    fresh = Host(REPLICAS)
    serve(fresh, "s1", prompt(grown("s1", 4)), 20.0)
    some = filling(fresh, written(known(3)), 20.0)
    for _ in some.slices(100, lambda: 20.0):
        pass
    fresh.check()
    state = fresh.sessions.session(name("s1"))
    assert state is not None
    assert state.turns == 2
    assert state.seen_s == 20.0


def test_a_process_that_is_active_again_counts_nothing_twice() -> None:
    """It left, another one served on, and it came back with what it knew."""
    first = known(3)
    other = Host(REPLICAS)
    for _ in filling(other, written(first), 5.0).slices(100, lambda: 5.0):
        pass
    serve(other, "s1", prompt(grown("s1", 4)), 6.0)
    for _ in filling(first, written(other), 7.0, again=True).slices(100, lambda: 7.0):
        pass
    states = [one.sessions.run(name("s1")) for one in (first, other)]
    assert states[0] is not None
    assert states[1] is not None
    assert states[0].turns == states[1].turns == 2
    assert states[0].attained_tokens == states[1].attained_tokens


def test_a_session_that_nobody_names_keeps_its_number() -> None:
    """The next one is not called the same, though the count was written before it."""
    host = Host(REPLICAS)
    piece = Kept(name="agents/~41", seen_s=1.0, turns=1)
    some = filling(host, [records.encode(piece, 0.0)], 2.0)
    some.recall("agents/~41", 2.0)
    assert host.sessions._new_name("agents") == "agents/~42"


@settings(max_examples=60, deadline=None)
@given(st.lists(SESSIONS, max_size=12), st.booleans())
def test_whatever_is_kept_no_invariant_breaks(pieces: list[Kept], again: bool) -> None:
    """Names, parents, sizes and times that no process would write, into a scheduler at work."""
    host = known(5)
    turn_id, _ = host.arrive("s1", prompt(grown("s1", 4)), 50.0)
    some = filling(host, [records.encode(piece, 0.0) for piece in pieces], 50.0, again=again)
    for piece in pieces:
        some.recall(piece.name, 50.0)
        host.check()
    some.finish(50.0)
    host.end(turn_id, "s1", 3000, 51.0)
    for i in range(5):
        serve(host, f"s{i}", prompt(grown(f"s{i}", 6)), 60.0 + i)
    host.sessions.expire(5000.0)
    host.check()
