"""The desk: calls come in, words go out. It hosts the program scheduler behind Envoy, as `simulation.hosted` does in the simulation.

Sans-I/O and of one thread; the clock is its caller's. What comes from outside is bounded and never raises.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice

from agentic_serving.program import events as ev
from agentic_serving.program.blocks import TokenRate
from agentic_serving.program.graph import SessionGraph
from agentic_serving.program.identity import SAID, Identity, session_name
from agentic_serving.program.request import api_of
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.program.service import Service
from agentic_serving.program.sessions import Sessions
from agentic_serving.router import showing, warming
from agentic_serving.router.attribution import Attributed, Attribution
from agentic_serving.router.book import Book
from agentic_serving.router.calls import Open, Phase
from agentic_serving.router.carrying import Carrier, Hint
from agentic_serving.router.config import Config
from agentic_serving.router.declared import gap_told
from agentic_serving.router.intake import Intake, Taken
from agentic_serving.router.limits import Limits
from agentic_serving.router.parsing import parsed
from agentic_serving.router.views import HeldCall, Live
from agentic_serving.router.words import (
    Began,
    Call,
    Declaration,
    Go,
    Listener,
    Pod,
    Usage,
    WarmedUp,
    WarmUp,
    Word,
)

__all__ = ["Desk", "Hint"]

#: So many calls are let go or given up in one step: some 50 ms, in which no other call is answered.
_AT_ONCE = 256


class Desk:
    """`words.Host` and `views.Viewed`.

    Attributes:
        recall: brings a session in that another process knew, by its name, before it is looked for.
        adapt: what replaces the body of a call that goes at once, or None.
        warm: begins a warm-up, and `warmed` must follow; False: it does not.
    """

    def __init__(
        self,
        config: Config,
        *,
        listeners: Iterable[Listener] = (),
        service: Service | None = None,
        hint: Hint | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self.scheduler = Scheduler(config.policy, service=service)
        self._book = Book(self.scheduler, listeners, self._limits)
        self.recall: Callable[[str], None] | None = None
        self.adapt: Callable[[Call, Attributed], bytes | None] | None = None
        self.warm: Callable[[WarmUp], bool] | None = None
        self._warming: dict[str, WarmedUp] = {}  # as many as `warm` begins at the same time
        self._carrier = Carrier(self._book, config, hint, self._limits)
        book = self._book
        self._intake = Intake(book.sessions, book.prompts, book.roster, self.scheduler, self._limits)
        self._over: list[str] = []  # sessions that an application said are finished
        self._swept_s = 0.0
        self._use(config)

    @property
    def sessions(self) -> Sessions:
        return self._book.sessions

    @property
    def rates(self) -> dict[str, TokenRate]:
        """Tokens per byte, by `<program>/<api>`."""
        return self._book.prompts.rates

    def graph_of(self, run: str) -> SessionGraph:
        """The run's session graph; made if there is none."""
        return self._book.prompts.graph_of(run)

    def on_error(self, tell: Callable[[Exception], None]) -> None:
        """Who is told of a listener's exception; nobody else hears of it."""
        self._book.on_error = tell

    @property
    def wake_s(self) -> float | None:
        book = self._book
        if self._over or (self._config.mode == "Observe" and next(book.calls.queue, None) is not None):
            return self._swept_s  # at once
        sweep_s = self._swept_s + self._limits.sweep_s if len(book.sessions) or len(book.calls) else None
        wishes = (self.scheduler.wake_s, book.calls.wake_s, book.firsts.wake_s, sweep_s)
        return min((one for one in wishes if one is not None), default=None)

    # Calls

    def arrive(self, call: Call, now_s: float) -> Sequence[Word]:
        go = [Go(call_id=call.id)]
        if api_of(call.method, call.path) in ("other", "count_tokens") or call.id in self._book.calls:
            return go
        body = parsed(call)
        identity = self._attribution.identify(call, body)
        if body is None and identity.session is None:
            self._carrier.decided(call.id, "Admit", "NotParsed", now_s)
            return go
        self._recall(identity)
        rules = self._attribution.rules(identity.program)
        taken = self._intake.take(call, body, identity, rules, now_s)
        for note in taken.notes:
            self._book.tell(note, now_s)
        gone = self._carrier.carry_out(self._book.gone(taken.arrival.gone, now_s), now_s)
        replaced = self._replaced(taken)
        if replaced is not None:
            return [*gone, *self._carrier.take_place(replaced, taken.open, now_s)]
        return [*gone, *self._ask(call, taken, now_s)]

    def first_token(self, call_id: str, now_s: float) -> Sequence[Word]:
        call = self._book.calls.get(call_id)
        if call is None or call.phase is not Phase.GOING:
            return ()
        self._book.firsts.seen = True
        call.status = 200  # until the log says what became of it
        self._book.tell(Began(call_id=call_id, status=call.status, replica=call.replica), now_s)
        return self._carrier.carry_out(self._book.do(ev.FirstToken(call_id), now_s), now_s)

    def closed(self, call_id: str, now_s: float) -> Sequence[Word]:
        call = self._book.calls.get(call_id)
        if call is not None and call.phase is Phase.HELD:
            self._book.leave(call, now_s)
        elif call is not None and call.phase is Phase.GOING:
            self._book.calls.close(call, now_s + self._limits.usage_wait_s)
        return ()

    def usage(self, usage: Usage, now_s: float) -> Sequence[Word]:
        call = self._book.calls.get(usage.call_id)
        if call is None or call.phase in (Phase.HELD, Phase.LEFT):
            return ()
        found = self._book.placed(call, usage.endpoint, now_s)
        return self._carrier.carry_out([*found, *self._book.finish(call, usage, now_s)], now_s)

    def warmed(self, usage: Usage, now_s: float) -> Sequence[Word]:
        """A warm-up is over."""
        begun = self._warming.pop(usage.call_id, None)
        if begun is None:
            return ()
        note, event = warming.ended(begun, usage)
        self._book.tell(note, now_s)
        return self._carrier.carry_out(self._book.do(event, now_s), now_s)

    # The rest of the world

    def pods(self, pods: Sequence[Pod], now_s: float) -> Sequence[Word]:
        told = self._book.places.tell(pods, self._config.capacity_tokens, self._config.max_seqs)
        return self._carrier.carry_out(
            [one for event in list(told) for one in self._book.do(event, now_s)], now_s
        )

    def caches(self, news: Sequence[ev.CacheNews], now_s: float) -> Sequence[Word]:
        """What engines published of their caches."""
        return self._carrier.carry_out(self._book.do(ev.CachesSeen(tuple(news)), now_s), now_s)

    def declare(self, declaration: Declaration, now_s: float) -> bool:
        name = session_name(declaration.program, declaration.session)
        if self.recall is not None:
            self.recall(name)
        if name not in self.sessions:
            return False
        self._book.roster.declare(name, declaration, now_s)
        told = gap_told(declaration)
        if told is not None:
            self.scheduler.absence.told(name, told, now_s)
        if declaration.finished:
            self._over.append(name)
        return True

    def end_run(self, run: str, now_s: float) -> Sequence[Word]:
        """The run was ended where it also runs, on another stack: as if its root had said so."""
        return self._carrier.carry_out(self._book.gone(self.sessions.end(run), now_s), now_s)

    def configure(self, config: Config, now_s: float) -> Sequence[Word]:
        """Programs, mode, policy, from now on. What is held waits on as it was promised, unless nothing is to be held any more."""
        if config.policy != self._config.policy:
            self.scheduler.configure(config.policy)
        self._use(config)
        return [*self.pods(self._book.places.pods, now_s), *self._release(now_s)]

    def tick(self, now_s: float) -> Sequence[Word]:
        book, (over, self._over) = self._book, (self._over, [])
        found = [one for name in over for one in book.gone(self.sessions.end(name), now_s)]
        found += book.do(ev.Tick(), now_s)
        words = self._carrier.carry_out(found, now_s)
        for call_id in book.firsts.due(now_s):
            words += self._carrier.carry_out(book.do(ev.FirstToken(call_id, timed=False), now_s), now_s)
        words += self._release(now_s)
        for call in islice(book.calls.due(now_s), _AT_ONCE):
            done = book.give_up(call, now_s) if call.phase is Phase.LEFT else book.finish(call, None, now_s)
            words += self._carrier.carry_out(done, now_s)
        if now_s >= self._swept_s + self._limits.sweep_s:
            self._swept_s = now_s
            swept = book.sweep(self._attribution, self._config.request_timeout_s, now_s)
            words += self._carrier.carry_out(swept, now_s)
        return words

    # What can be seen

    def live(self, now_s: float) -> Live:  # noqa: ARG002 - as whoever looks
        return showing.live(self._book)

    def held(self, now_s: float, limit: int) -> list[HeldCall]:  # noqa: ARG002 - as above
        return showing.held(self._book, limit)

    def check(self) -> None:
        """Raises Bug where an invariant does not hold. Walks everything: for tests."""
        self._book.check()

    # Deciding

    def _use(self, config: Config) -> None:
        self._config = self._carrier.config = config
        self._attribution = Attribution(config)
        self.sessions.idle_s = self._attribution.idle_s

    def _release(self, now_s: float) -> list[Word]:
        """Where nothing is to be held any more, some of what is; the next ones with the next tick, which comes at once."""
        words = list[Word]()
        for call in list(islice(self._book.calls.queue, _AT_ONCE if self._config.mode == "Observe" else 0)):
            words += self._carrier.carry_out(self._book.do(ev.Released(call.id), now_s), now_s)
        return words

    def _recall(self, identity: Identity) -> None:
        for name in (identity.session, identity.parent):
            if self.recall is not None and name is not None:
                self.recall(name)

    def _replaced(self, taken: Taken) -> Open | None:
        """A held turn that this call is the client's retry of. A mere equal prompt counts only where nobody waits for the first."""
        call, retry = taken.open, taken.arrival.retry
        for held in self._book.calls.held_of(call.turn.session) if retry else ():
            if held.chain == call.chain and (retry >= SAID or held.phase is Phase.LEFT):
                return held
        return None

    def _ask(self, call: Call, taken: Taken, now_s: float) -> Sequence[Word]:
        config, turn = self._config, taken.open.turn
        if turn.fork and (self.warm is None or config.mode == "Observe" or config.disaggregated):
            turn = taken.open.turn = replace(turn, fork=0)
        self._book.calls.add(taken.open)
        told = self._book.do(ev.Arrived(turn), now_s)
        words = self._carrier.carry_out(told, now_s)
        for one in told:
            if isinstance(one, ev.Warm):
                words += self._warm_up(call, taken, one, now_s)
        if self.adapt is None or self._config.mode == "Observe":
            return words
        return [self._adapted(call, taken, one) for one in words]

    def _warm_up(self, call: Call, taken: Taken, warm: ev.Warm, now_s: float) -> Sequence[Word]:
        """Begun while the call's body is at hand: it is gone when the call is."""
        asked = warming.request(call, warm, self._book.places.pods)
        self._warming[warm.id] = note = warming.noted(taken.open.turn, warm)
        if asked is not None and self.warm is not None and self.warm(asked):
            return ()
        del self._warming[warm.id]
        self._book.tell(replace(note, outcome="Refused", computed_tokens=0), now_s)
        return self._carrier.carry_out(self._book.do(ev.Failed(warm.id), now_s), now_s)

    def _adapted(self, call: Call, taken: Taken, word: Word) -> Word:
        if self.adapt is None or not isinstance(word, Go) or word.call_id != call.id:
            return word
        body = self.adapt(call, taken.attributed)
        return replace(word, body=body)
