"""The desk's book: sessions, prompts, calls, replicas and the scheduler, kept in step; listeners are told from here.

Its methods answer with the scheduler's instructions; what becomes of those is the desk's.
"""

from collections.abc import Callable, Iterable
from typing import Literal

from agentic_serving.errors import Bug
from agentic_serving.program import events as ev
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.program.session_types import Gone
from agentic_serving.program.sessions import Sessions
from agentic_serving.router import words
from agentic_serving.router.attribution import Attribution
from agentic_serving.router.calls import Calls, Open, Phase
from agentic_serving.router.firsts import Firsts
from agentic_serving.router.limits import Limits
from agentic_serving.router.places import Places
from agentic_serving.router.prompts import Prompts
from agentic_serving.router.roster import Roster
from agentic_serving.router.settling import Settled, settled

__all__ = ["Book", "Instructions"]

Instructions = list[ev.Instruction]


class Book:
    """Everything that the desk knows.

    Attributes:
        on_error: told of a listener's exception, which nobody else hears of.
    """

    def __init__(self, scheduler: Scheduler, listeners: Iterable[words.Listener], limits: Limits) -> None:
        self.scheduler = scheduler
        self.sessions = Sessions()
        self.prompts = Prompts()
        self.roster = Roster()
        self.calls = Calls()
        self.places = Places()
        self.firsts = Firsts()
        self.on_error: Callable[[Exception], None] | None = None
        self._listeners = tuple(listeners)
        self._limits = limits

    def tell(self, note: words.Note, now_s: float) -> None:
        """A listener that fails must not cost a call."""
        for listener in self._listeners:
            try:
                listener.hear(note, now_s)
            except Exception as error:  # noqa: BLE001 - whatever it is
                if self.on_error is not None:
                    self.on_error(error)

    def do(self, event: ev.Event, now_s: float) -> Instructions:
        return self.scheduler.handle(event, now_s)

    # A call's way

    def hold(self, call: Open, until_s: float, reason: str, now_s: float) -> None:
        self.calls.hold(call, until_s, reason)
        self.roster.counts(self._run(call), now_s, held=1)

    def go(self, call: Open, admit: ev.Admit, now_s: float) -> None:
        held = int(call.phase is Phase.HELD)
        self.calls.go(call, now_s)
        self.roster.counts(
            self._run(call), now_s, held=-held, served=1, held_s=now_s - call.arrived_s if held else 0.0
        )
        if admit.replica is None:
            return
        call.replica = admit.replica
        call.expected_cached = max(0, call.turn.prompt_tokens - admit.uncached_tokens)
        after_s = self.scheduler.prefill_s(call.id)
        if self.firsts.seen and not call.streams and after_s is not None:
            self.firsts.suppose(call.id, now_s + after_s)

    def placed(self, call: Open, endpoint: str, now_s: float) -> Instructions:
        """The picker's choice is known."""
        name = self.places.name(endpoint)
        if not name or name == call.replica:
            return []
        call.replica = name
        return self.do(ev.Placed(call.id, name), now_s)

    def leave(self, call: Open, now_s: float) -> None:
        """Its client left while it was held. It keeps its place for a while: clients come again."""
        self.calls.leave(call, now_s + self._limits.return_s)
        self.roster.counts(self._run(call), now_s, held=-1, held_s=now_s - call.arrived_s)
        self.unserved(call, "ClientLeft", now_s)

    def finish(self, call: Open, usage: words.Usage | None, now_s: float) -> Instructions:
        """Nothing more comes of a call that was let go."""
        lives = self.places.lives(call.replica)
        found = settled(call, usage, pod_lives=lives, noise_tokens=self._limits.noise_tokens)
        cached = call.expected_cached if found.cached_tokens is None else found.cached_tokens
        if not found.estimated:
            self.prompts.reported(
                call.turn.session,
                self._run(call),
                call.reading,
                prompt_tokens=found.prompt_tokens,
                cached_tokens=found.cached_tokens,
                output_tokens=found.output_tokens,
            )
        self.calls.end(call)
        run = self._run(call)
        self.roster.counts(run, now_s, served=-1)
        if not call.turn.side:
            self.roster.finish(
                run, call.turn.session, now_s, call.replica, answered=found.outcome == "Answered"
            )
        self.tell(_done(call, found, cached), now_s)
        computed = max(0, found.prompt_tokens - cached) if found.served else 0
        gone = self.sessions.finish(call.turn.session, now_s, computed_tokens=computed)
        return [*self.do(_ended(call, found), now_s), *self.gone(gone, now_s)]

    def replace(self, first: Open, again: Open, now_s: float) -> Instructions:
        """One held call in another's place, which the scheduler knows of."""
        self.calls.add(again)
        self.hold(again, first.until_s, first.reason, now_s)
        self._drop(first, now_s)
        return self.gone(self.sessions.finish(first.turn.session, now_s), now_s)

    def unserved(self, call: Open, outcome: Literal["ClientLeft", "Refused"], now_s: float) -> None:
        """Tells that it ended without having been let go."""
        done = words.Done(
            call_id=call.id,
            outcome=outcome,
            replica="",
            prompt_tokens=0,
            cached_tokens=0,
            output_tokens=0,
            estimated=True,
            expected_cached_tokens=0,
        )
        self.tell(done, now_s)

    def refuse(self, call: Open, now_s: float) -> Instructions:
        """It was not let go, and is told so."""
        self.unserved(call, "Refused", now_s)
        return self.give_up(call, now_s)

    def give_up(self, call: Open, now_s: float) -> Instructions:
        """Nobody waits any more for a call that was never let go."""
        self._drop(call, now_s)
        gone = self.sessions.finish(call.turn.session, now_s)
        return [*self.do(ev.Failed(call.id), now_s), *self.gone(gone, now_s)]

    # Sessions and runs

    def gone(self, gone: Iterable[Gone], now_s: float, why: str = "") -> Instructions:
        """Sessions are over. `why`: in place of the registry's word."""
        found: Instructions = []
        for one in gone:
            self.prompts.gone(one)
            program = one.session.partition("/")[0]
            for note in self.roster.gone(one, program, why or one.why, now_s):
                self.tell(note, now_s)
            if one.session == one.run:
                found += self.do(ev.RunEnded(one.run), now_s)
        return found

    def sweep(self, attribution: Attribution, request_s: float, now_s: float) -> Instructions:
        """What time alone ends: tasks, runs, sessions, and calls whose end was missed."""
        found: Instructions = []
        for call in self.calls.lost(now_s - request_s - self._limits.lost_s):
            found += self.finish(call, None, now_s)
        for note in self.roster.quiet(now_s - self._limits.settle_s):
            self.tell(note, now_s)
        for program in self.roster.programs:
            for run in self.roster.idle(program, now_s - attribution.rules(program).idle_s):
                found += self._idle(run, now_s)
        return [*found, *self.gone(self.sessions.expire(now_s), now_s)]

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        self.scheduler.check()
        self.sessions.check()
        self.calls.check()
        for call in self.calls:
            if (call.phase in (Phase.HELD, Phase.LEFT)) != (call.id in self.scheduler.waiting):
                raise Bug(f"{call.id} waits here or there, and not both")
        if len(self.scheduler.waiting) > len(self.calls):
            raise Bug("the scheduler holds what nobody asked for")
        for name in (*self.roster.sessions, *self.roster.runs, *self.prompts.sessions):
            if name not in self.sessions:
                raise Bug(f"{name} is over and not forgotten")

    def _drop(self, call: Open, now_s: float) -> None:
        """The call is not here any more, whatever becomes of its turn."""
        if call.phase is Phase.HELD:
            self.roster.counts(self._run(call), now_s, held=-1, held_s=now_s - call.arrived_s)
        self.calls.end(call)
        if not call.turn.side:
            self.roster.finish(self._run(call), call.turn.session, now_s, "", answered=False)

    def _idle(self, run: str, now_s: float) -> Instructions:
        state = self.sessions.run(run)
        if state is not None and state.in_flight:
            self.roster.touch(run, now_s)
            return []
        return self.gone(self.sessions.end(run), now_s, "idle")

    def _run(self, call: Open) -> str:
        """Its run's name now: a run may turn out to be part of another one."""
        if call.turn.run in self.roster.runs:
            return call.turn.run
        state = self.sessions.run(call.turn.session)
        return call.turn.run if state is None else state.run


def _ended(call: Open, found: Settled) -> ev.Event:
    if not found.served:
        return ev.Failed(call.id)
    return ev.Ended(
        turn_id=call.id,
        prompt_tokens=found.prompt_tokens,
        output_tokens=found.output_tokens,
        cached_tokens=found.cached_tokens,
    )


def _done(call: Open, found: Settled, cached: int) -> words.Done:
    return words.Done(
        call_id=call.id,
        outcome=found.outcome,
        replica=call.replica,
        prompt_tokens=found.prompt_tokens,
        cached_tokens=cached,
        output_tokens=found.output_tokens,
        estimated=found.estimated,
        expected_cached_tokens=call.expected_cached,
        recomputed=found.recomputed,
    )
