"""Reuse as predicted with and without the engine's events, on a replica that another client uses as well: recorded sessions."""

import heapq
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentic_serving.capacity.runs import Runs, blocks, common_blocks
from agentic_serving.fleet.events import BlocksRemoved, BlocksStored, CacheEvent
from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.replica import Replica
from agentic_serving.fleet.types import Finished, Limits, Request
from agentic_serving.program import events as ev
from agentic_serving.program.policy import Policy
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.workload import Turn, read

TRACES = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
BLOCK = 64
BLOCKS = 8000
#: Between two looks at the events, as the router's.
LOOK_S = 0.25
_MOST_OUTPUT = 500
_MOST_GAP_S = 60.0


@dataclass
class Session:
    """A recorded session under way, with blocks of its own. `ours`: its turns are told to the scheduler."""

    name: str
    turns: tuple[Turn, ...]
    offset: int
    ours: bool
    at: int = 0

    @property
    def turn(self) -> Turn:
        return self.turns[self.at]

    @property
    def output(self) -> int:
        return max(1, min(self.turn.output_tokens, _MOST_OUTPUT))

    def runs(self) -> Runs:
        return tuple((first + self.offset, count) for first, count in self.turn.runs)

    def kept(self) -> int:
        """Tokens that this turn's prompt has in common with the last one's."""
        before = self.turns[self.at - 1]
        common = common_blocks(before.runs, self.turn.runs) * BLOCK
        whole = before.prompt_tokens + max(1, min(before.output_tokens, _MOST_OUTPUT))
        return common if common < before.prompt_tokens - BLOCK else whole

    def as_turn(self) -> ev.Turn:
        shares = (ev.Share(self.name, self.kept()),) if self.at else ()
        return ev.Turn(
            id=self.name, program="p", run=self.name, session=self.name,
            prompt_tokens=self.turn.prompt_tokens, shares=shares,
        )  # fmt: skip


@dataclass
class Shared:
    """One replica, `ours` sessions at a time that a scheduler places there, and `others` that it never hears of."""

    ours: int
    others: int
    listening: bool
    scheduler: Scheduler = field(default_factory=lambda: Scheduler(Policy(hold=False)))
    #: Of ours: predicted, reported, prompt tokens, and what was really there when the turn arrived.
    rows: list[tuple[int, int, int, int]] = field(default_factory=list)
    live: dict[str, Session] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits = Limits(n_blocks=BLOCKS, block_size=BLOCK)
        self.replica = Replica(limits, find_profile("sketch"), record_events=True)
        self.scheduler.handle(ev.ReplicaSeen(name="r", capacity_tokens=limits.usable_tokens), 0.0)
        self.expected: dict[str, int] = {}
        self.there: dict[str, int] = {}
        self.due: list[tuple[float, str]] = []
        self.pending: list[CacheEvent] = []
        self.first = True
        sessions = [p.sessions[0] for p in read(TRACES)]
        mine = [Session(f"ours-{i}", s.turns, i * 10**6, ours=True) for i, s in enumerate(sessions * 3)]
        self.waiting = {True: mine, False: []}
        if self.others:
            self.waiting[False] = [
                Session(f"other-{i}", s.turns, (1000 + i) * 10**6, ours=False)
                for i, s in enumerate(sessions * 12)
            ]

    def run(self) -> "Shared":
        now_s = 0.0
        while self.waiting[True] or any(one.ours for one in self.live.values()):
            self.start(now_s)
            while self.due and self.due[0][0] <= now_s:
                self.admit(self.live[heapq.heappop(self.due)[1]], now_s)
            now_s += LOOK_S
            for done in self.advance(now_s):
                self.finish(done)
            self.look(now_s)
            self.scheduler.check()
        return self

    def start(self, now_s: float) -> None:
        for ours, most in ((True, self.ours), (False, self.others)):
            while sum(one.ours == ours for one in self.live.values()) < most and self.waiting[ours]:
                session = self.waiting[ours].pop()
                self.live[session.name] = session
                heapq.heappush(self.due, (now_s, session.name))

    def admit(self, session: Session, now_s: float) -> None:
        prompt = session.turn.prompt_tokens
        if session.ours:
            (admit,) = self.scheduler.handle(ev.Arrived(session.as_turn()), now_s)
            assert isinstance(admit, ev.Admit)
            self.expected[session.name] = prompt - admit.uncached_tokens
            self.there[session.name] = self.replica.cached_tokens(session.runs(), prompt, now_s)
        request = Request(
            id=session.name, runs=session.runs(), prompt_tokens=prompt, output_tokens=session.output
        )
        self.replica.admit(request, now_s)

    def advance(self, until_s: float) -> list[Finished]:
        """`Replica.advance`, with the events of every step."""
        finished: list[Finished] = []
        while (
            step := self.replica.step or self.replica.begin(max(until_s - LOOK_S, self.replica.busy_until_s))
        ) is not None:
            if step.end_s > until_s:
                break
            outcome = self.replica.end()
            self.pending.extend(outcome.events)
            finished.extend(outcome.finished)
            if self.replica.busy_until_s >= until_s:
                break
        return finished

    def finish(self, done: Finished) -> None:
        session, usage = self.live[done.id], done.usage
        if session.ours:
            self.rows.append(
                (self.expected[done.id], usage.cached_tokens, usage.prompt_tokens, self.there[done.id])
            )
            ended = ev.Ended(
                turn_id=done.id,
                prompt_tokens=usage.prompt_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens,
            )
            self.scheduler.handle(ended, done.finished_s)
        session.at += 1
        if session.at == len(session.turns):
            del self.live[done.id]
            if session.ours:
                self.scheduler.handle(ev.RunEnded(session.name), done.finished_s)
            return
        heapq.heappush(self.due, (done.finished_s + min(session.turn.gap_s, _MOST_GAP_S), session.name))

    def look(self, now_s: float) -> None:
        events, self.pending = self.pending, []
        if not self.listening or not events:
            return
        stored = sum(blocks(one.runs) for one in events if isinstance(one, BlocksStored))
        removed = sum(blocks(one.runs) for one in events if isinstance(one, BlocksRemoved))
        news = ev.CacheNews(
            replica="r",
            stored_tokens=stored * BLOCK,
            removed_tokens=removed * BLOCK,
            block_tokens=BLOCK,
            gap=self.first,
        )
        self.first = False
        self.scheduler.handle(ev.CachesSeen((news,)), now_s)

    def shares(self) -> tuple[float, float, float]:
        """Of all prompt tokens of ours: cached, predicted and not found, found and not predicted."""
        whole = sum(prompt for _, _, prompt, _ in self.rows)
        over = sum(max(0, expected - found) for expected, found, _, _ in self.rows)
        under = sum(max(0, found - expected) for expected, found, _, _ in self.rows)
        return sum(found for _, found, _, _ in self.rows) / whole, over / whole, under / whole

    def lost_on_the_way(self) -> float:
        """What was there when a turn arrived and not when it began: nobody who looks at its arrival could have known."""
        lost = sum(max(0, there - found) for _, found, _, there in self.rows)
        return lost / sum(prompt for _, _, prompt, _ in self.rows)


@pytest.mark.parametrize("listening", [False, True], ids=["blind", "listening"])
def test_events_change_nothing_where_nobody_else_is(listening: bool) -> None:
    shared = Shared(ours=5, others=0, listening=listening).run()
    hit, over, under = shared.shares()
    assert hit > 0.5
    assert over + under < 0.01
    assert shared.scheduler.others_tokens <= 5 * _MOST_OUTPUT, "answers in flight, made up for"
    assert shared.scheduler.ledger.capacity("r") == (BLOCKS - 1) * BLOCK


def test_a_quarter_of_the_error_that_others_cause_is_gone() -> None:
    blind, listening = (Shared(ours=5, others=2, listening=one).run().shares() for one in (False, True))
    assert blind[0] == listening[0], "the same cache, asked in the same order"
    assert listening[1] < 0.8 * blind[1]
    assert listening[1] + listening[2] < 0.8 * (blind[1] + blind[2])


if __name__ == "__main__":  # the figures themselves
    print("others, listening: cached; predicted and not found; found and not predicted; lost on the way")
    for others in (0, 1, 2, 4):
        for listening in (False, True):
            shared = Shared(ours=5, others=others, listening=listening).run()
            print(
                others, listening, *(f"{share:.4f}" for share in (*shared.shares(), shared.lost_on_the_way()))
            )
