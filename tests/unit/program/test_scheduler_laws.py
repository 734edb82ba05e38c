"""What holds of the scheduler whatever happens: nothing is lost, admitted twice, held too long, or left behind."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentic_serving.program import events as ev
from agentic_serving.program.policy import Policy
from agentic_serving.program.scheduler import Scheduler

_SESSIONS = st.integers(0, 11)  # of four runs, three each
_REPLICAS = st.sampled_from(["r0", "r1", "r2"])
_TOKENS = st.sampled_from([0, 1, 500, 3_000, 9_000, 20_000, 60_000, 90_000, 150_000])
_GAPS_S = st.sampled_from([0.0, 0.3, 1.0, 7.0, 40.0, 200.0])
_DECLARED = st.one_of(
    st.none(),
    st.builds(ev.Declared, gap_s=st.one_of(st.none(), _GAPS_S), remaining_s=st.one_of(st.none(), _GAPS_S)),
)
#: Rounding of sums of times.
_EPSILON_S = 1e-6


class Host(RuleBasedStateMachine):
    """A host that ticks when it is told to, and clients, engines and replicas that do anything."""

    policy = Policy()

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(self.policy)
        self.now_s = 0.0
        self.count = 0
        self.turns: dict[str, ev.Turn] = {}  # held or admitted, and not over
        self.until_s: dict[str, float] = {}  # held
        self.admitted: set[str] = set()  # ever
        self.replicas: set[str] = set()
        self.warm_ups: set[str] = set()  # that are not over

    def do(self, event: ev.Event) -> None:
        for one in self.scheduler.handle(event, self.now_s):
            if isinstance(one, ev.Admit):
                assert one.turn_id in self.turns
                assert one.turn_id not in self.admitted
                assert (one.replica is None and not self.replicas) or one.replica in self.replicas
                assert 0 <= one.uncached_tokens <= self.turns[one.turn_id].prompt_tokens
                assert one.held_s >= 0
                self.admitted.add(one.turn_id)
                self.until_s.pop(one.turn_id, None)
            elif isinstance(one, ev.Hold):
                assert one.turn_id not in self.until_s
                turn = self.turns[one.turn_id]
                assert not turn.side
                assert one.until_s <= self.now_s + turn.max_hold_s
                self.until_s[one.turn_id] = one.until_s
            elif isinstance(one, ev.Warm):
                assert one.turn_id in self.admitted
                assert one.id not in self.warm_ups
                assert one.replica in self.replicas
                self.warm_ups.add(one.id)

    @rule(
        session=_SESSIONS,
        tokens=_TOKENS,
        shares=st.lists(st.tuples(_SESSIONS, _TOKENS), max_size=3),
        kind=st.sampled_from(["task", "task", "tool", "tool", "tool", "side"]),
        priority=st.integers(-1, 1),
        max_hold_s=st.sampled_from([0.0, 5.0, 60.0, 300.0]),
        declared=_DECLARED,
        fork=st.sampled_from([0, 0, 3, 50, 4096]),
    )
    def arrive(
        self,
        session: int,
        tokens: int,
        shares: list[tuple[int, int]],
        kind: str,
        priority: int,
        max_hold_s: float,
        declared: ev.Declared | None,
        fork: int,
    ) -> None:
        self.count += 1
        turn = ev.Turn(
            id=f"t{self.count}",
            program="p",
            run=f"run{session // 3}",
            session=f"s{session}",
            prompt_tokens=max(tokens, 1),
            shares=tuple(ev.Share(f"s{other}", shared) for other, shared in shares),
            human=kind == "task",
            side=kind == "side",
            priority=priority,
            max_hold_s=max_hold_s,
            declared=declared,
            fork=fork,
        )
        self.turns[turn.id] = turn
        self.do(ev.Arrived(turn))
        assert (turn.id in self.admitted) != (turn.id in self.until_s)

    def pick(self, data: st.DataObject, *, admitted: bool) -> str:
        return data.draw(st.sampled_from([one for one in self.turns if not admitted or one in self.admitted]))

    @precondition(lambda self: self.admitted & self.turns.keys())
    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        self.do(ev.FirstToken(self.pick(data, admitted=True)))

    @precondition(lambda self: self.admitted & self.turns.keys())
    @rule(data=st.data(), output=_TOKENS, cached=st.one_of(st.none(), _TOKENS), more=_TOKENS)
    def end(self, data: st.DataObject, output: int, cached: int | None, more: int) -> None:
        turn = self.turns.pop(self.pick(data, admitted=True))
        prompt = turn.prompt_tokens + (more if more < 1_000 else 0)  # a router's count of tokens is a guess
        self.do(ev.Ended(turn_id=turn.id, prompt_tokens=prompt, output_tokens=output, cached_tokens=cached))

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        turn_id = self.pick(data, admitted=False)
        del self.turns[turn_id]
        self.until_s.pop(turn_id, None)
        self.admitted.add(turn_id)  # it must not be admitted any more
        self.do(ev.Failed(turn_id))

    @precondition(lambda self: self.warm_ups)
    @rule(data=st.data(), cached=st.sampled_from([None, 0, 3_000]), fails=st.booleans())
    def warmed(self, data: st.DataObject, cached: int | None, fails: bool) -> None:
        warm_up = data.draw(st.sampled_from(sorted(self.warm_ups)))
        self.warm_ups.discard(warm_up)
        self.do(
            ev.Failed(warm_up)
            if fails
            else ev.Ended(turn_id=warm_up, prompt_tokens=9_000, output_tokens=1, cached_tokens=cached)
        )

    @precondition(lambda self: self.admitted & self.turns.keys())
    @rule(data=st.data(), replica=_REPLICAS)
    def placed(self, data: st.DataObject, replica: str) -> None:
        self.do(ev.Placed(self.pick(data, admitted=True), replica))

    @rule(
        replica=_REPLICAS, capacity=st.sampled_from([50_000, 100_000, 400_000]), seqs=st.sampled_from([1, 4])
    )
    def seen(self, replica: str, capacity: int, seqs: int) -> None:
        self.replicas.add(replica)
        self.do(ev.ReplicaSeen(name=replica, capacity_tokens=capacity, max_seqs=seqs))

    @rule(replica=_REPLICAS)
    def gone(self, replica: str) -> None:
        self.replicas.discard(replica)
        self.do(ev.ReplicaGone(replica))

    @rule(
        replica=_REPLICAS,
        stored=_TOKENS,
        block=st.sampled_from([0, 1, 16, 4096]),
        cleared=st.booleans(),
        gap=st.booleans(),
        loads=st.booleans(),
    )
    def cache_news(
        self, replica: str, stored: int, block: int, cleared: bool, gap: bool, loads: bool
    ) -> None:
        """Anything, at any time: engines may lie. Nobody is warm by what others stored."""
        before = self.warm(replica)
        others = self.scheduler.others_tokens
        news = ev.CacheNews(
            replica=replica, stored_tokens=stored, block_tokens=block, cleared=cleared, gap=gap, loads=loads
        )
        self.do(ev.CachesSeen((news,)))
        assert all(after <= before[session] for session, after in self.warm(replica).items())
        assert self.scheduler.others_tokens - others >= 0
        host = self.scheduler._placing.replicas.get(replica)
        if host is not None and not self.until_s:  # else a held turn may have gone and end by the same news
            assert host.witness.surplus <= host.witness.allowed

    def warm(self, replica: str) -> dict[str, int]:
        """Of sessions whose turns do not come or go just now: news may let held turns go, whose prompts are there then."""
        waits = {self.turns[one].session for one in self.until_s}
        names = (f"s{one}" for one in range(12))
        return {name: self.scheduler.ledger.warm(name, replica) for name in names if name not in waits}

    @rule(run=st.integers(0, 3))
    def run_ends(self, run: int) -> None:
        self.do(ev.RunEnded(f"run{run}"))

    @rule(gap_s=_GAPS_S)
    def wait(self, gap_s: float) -> None:
        """The host ticks whenever the scheduler wants it to."""
        until_s = self.now_s + gap_s
        while (wake_s := self.scheduler.wake_s) is not None and wake_s <= until_s:
            self.now_s = max(self.now_s, wake_s)
            self.do(ev.Tick())
        self.now_s = until_s

    @invariant()
    def adds_up(self) -> None:
        self.scheduler.check()

    @invariant()
    def nothing_is_held_too_long(self) -> None:
        assert all(until_s >= self.now_s - _EPSILON_S for until_s in self.until_s.values())
        assert len(self.scheduler.waiting) == len(self.until_s)
        assert (self.scheduler.wake_s is None) == (not self.until_s)

    def teardown(self) -> None:
        """Everything ends: nothing is left in memory, and replicas have nothing to do."""
        self.wait(400.0)
        assert not self.until_s
        for turn_id in list(self.turns):
            del self.turns[turn_id]
            self.do(ev.Ended(turn_id=turn_id, prompt_tokens=10, output_tokens=10))
        for warm_up in self.warm_ups:
            self.do(ev.Failed(warm_up))
        for run in range(4):
            self.run_ends(run)
        s = self.scheduler
        s.check()
        for replica in s._placing.replicas.values():
            assert (replica.pending, replica.turns, replica.overflow) == (0, 0, 0)
        left = (len(s.absence), len(s.residents), len(s.service), len(s.waiting))
        assert left == (0, 0, 0, 0)
        assert not len(s._flights)
        assert not s._flights._computing
        assert not s._flights._under_way
        assert all(not s.ledger.where(f"s{one}") for one in range(12))


class HostWithoutHints(Host):
    policy = Policy(hints=False, stagger=False, recompute_budget=0.0, lookahead=1)


class HostThatWarms(Host):
    policy = Policy(warm_gain=1e-6, spread_gain=1e-6, shared_tokens=1)


class HostWithoutHolds(Host):
    policy = Policy(hold=False, stay=False)


_SETTINGS = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestHost = Host.TestCase
TestHost.settings = _SETTINGS
TestHostWithoutHints = HostWithoutHints.TestCase
TestHostWithoutHints.settings = _SETTINGS
TestHostThatWarms = HostThatWarms.TestCase
TestHostThatWarms.settings = _SETTINGS
TestHostWithoutHolds = HostWithoutHolds.TestCase
TestHostWithoutHolds.settings = _SETTINGS
