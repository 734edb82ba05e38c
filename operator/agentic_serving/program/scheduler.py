"""The program scheduler: events in, instructions out. No I/O, no clock; hosted behind Envoy and in the simulation.

What it decides is in `placing` (where, or why not yet), `waiting` and `service` (who goes first) and `residents` (what of the
caches is needed); this module keeps them in step. An event costs the same whatever the number of live sessions.
"""

from collections.abc import Iterable
from dataclasses import replace

from agentic_serving.errors import Bug
from agentic_serving.program import events as ev
from agentic_serving.program.absence import Absence
from agentic_serving.program.flights import Flight, Flights
from agentic_serving.program.ledger import Ledger
from agentic_serving.program.placing import Choice, Placing
from agentic_serving.program.policy import Policy
from agentic_serving.program.replicas import Replica
from agentic_serving.program.residents import Residents
from agentic_serving.program.service import Service
from agentic_serving.program.waiting import Held, Rank, Waiting
from agentic_serving.program.warming import Warming

__all__ = ["Scheduler"]

#: While turns wait, room may appear with time alone: sessions that stay away count less.
_TICK_S = 1.0

_OfTurn = ev.FirstToken | ev.Ended | ev.Failed | ev.Placed | ev.Replaced


class Scheduler:
    """One per stack. `now_s` never goes back: an earlier one counts as the latest."""

    def __init__(self, policy: Policy | None = None, *, service: Service | None = None) -> None:
        self.policy = policy or Policy()
        self.ledger = Ledger()
        self.absence = Absence(self.policy)
        self.waiting = Waiting()
        self.service = Service() if service is None else service  # an empty one is false
        self.residents = Residents(self._look, keep_s=self.policy.keep_s)
        self._placing = Placing(self.policy, self.ledger, self.residents)
        self._flights = Flights(self._placing, self.ledger, self.residents)
        self._warming = Warming(self.policy, self._placing, self._flights)
        self._now_s = 0.0
        #: Stored in known caches by nobody whose turns we follow, as far as engines tell.
        self.others_tokens = 0

    @property
    def wake_s(self) -> float | None:
        """When to send a Tick if nothing happens before."""
        deadline_s = self.waiting.deadline_s
        return None if deadline_s is None else min(deadline_s, self._now_s + _TICK_S)

    def handle(self, event: ev.Event, now_s: float) -> list[ev.Instruction]:
        """What to do now. Every turn gets Admit in the end; Hold is said once, on its arrival."""
        self._now_s = max(self._now_s, now_s)
        self.residents.advance(self._now_s)
        match event:
            case ev.Arrived(turn):
                return [*self._overdue(), *self._arrived(turn)]
            case ev.Released(turn_id):
                return [*self._released(turn_id), *self._overdue()]  # it frees nothing for others
            case ev.RunEnded(run):
                return [*self._run_ended(run), *self._overdue(), *self._dispatch()]
            case ev.ReplicaSeen():
                self._seen(event)
            case ev.ReplicaGone(name):
                self._gone(name)
            case ev.CachesSeen(news):
                self._witnessed(news)
            case ev.Tick():
                pass
            case _:
                self._went_on(event)
        return [*self._overdue(), *self._dispatch()]

    def _went_on(self, event: _OfTurn) -> None:
        match event:
            case ev.FirstToken(turn_id, timed):
                self._flights.first_token(turn_id, self._now_s, timed=timed)
            case ev.Ended():
                self._ended(event)
            case ev.Failed(turn_id):
                self._failed(turn_id)
            case ev.Placed(turn_id, replica):
                self._moved(turn_id, replica)
            case ev.Replaced(turn_id, by):
                self._replaced(turn_id, by)

    def configure(self, policy: Policy) -> None:
        """From now on; what waits and what is known stays."""
        self.policy = policy
        self.absence.configure(policy)
        self.residents.configure(policy.keep_s)
        self._placing.configure(policy)
        self._warming.configure(policy)

    def prefill_s(self, turn_id: str) -> float | None:
        """Until the first token of a turn that has just been admitted, about; None: it is not followed."""
        flight = self._flights.get(turn_id)
        return None if flight is None else flight.host.seconds(flight.host.pending)

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        self.ledger.check()
        self.residents.check()
        self.waiting.check()
        self._flights.check()

    # Turns

    def _arrived(self, turn: ev.Turn) -> Iterable[ev.Instruction]:
        if turn.id in self._flights or turn.id in self.waiting:
            raise Bug(f"turn {turn.id} arrived twice")
        if not turn.side:
            self.absence.back(turn, self._now_s)
            self._warming.arrived(turn, self._now_s)
            if turn.human:
                self.service.begin_task(turn.run, self._now_s)
        if not self._placing.replicas:
            yield self._let_go(turn, self._now_s)
            return
        rank = self.waiting.rank(turn.priority, self._weight(turn))
        yield from self._dispatch(rank)  # room that came with time alone is first theirs who rank before it
        choice = self._choose(turn)
        if choice.replica is None:
            yield self._hold(turn, choice, rank)
        else:
            yield self._admit(turn, choice, self._now_s)
            yield from self._warming.begin(turn, choice.replica, self._now_s)

    def _choose(self, turn: ev.Turn) -> Choice:
        if turn.side or not self.policy.hold or turn.max_hold_s <= 0:
            reason = ev.Reason.SIDE if turn.side else ev.Reason.ROOM
            home = self._placing.choose(turn, self._now_s) if self.policy.stay else None
            if home is not None and home.replica is not None and not turn.side:
                return home
            return self._placing.anywhere(turn, reason)
        leaders = self._leaders(turn)
        if leaders:
            leader, shared = max(leaders.items(), key=lambda one: one[1])
            there = max(self._placing.warm(turn, self._flights.computing).values(), default=0)
            if shared - there >= self.policy.shared_tokens:
                ahead = self._warming.spread(turn, shared, leaders, self.waiting, self._now_s)
                return ahead or Choice(None, ev.Reason.SIBLING, home=leader)
        return self._placing.choose(turn, self._now_s, leaders)

    def _leaders(self, turn: ev.Turn) -> dict[str, int]:
        """Replicas where what this one shares is being computed, and how much that is."""
        return self._flights.leaders(turn, self.policy.shared_tokens) if self.policy.stagger else {}

    def _hold(self, turn: ev.Turn, choice: Choice, rank: Rank) -> ev.Instruction:
        held = Held(turn, self._now_s, rank, choice.reason, choice.home)
        self.waiting.add(held)
        home = self.residents.home(turn.session)
        if home is not None:  # what it has there is needed as soon as it goes
            self.residents.use(turn.session, home, self.ledger.warm(turn.session, home))
        return ev.Hold(turn_id=turn.id, until_s=held.deadline_s, reason=held.reason)

    def _weight(self, turn: ev.Turn) -> float:
        """Less goes first: service attained, or what is left to do as far as the client's word is good."""
        if not self.policy.least_attained_first:
            return 0.0
        attained = float(self.service.attained(turn.run))
        declared = turn.declared
        if declared is None or declared.remaining_s is None or not self.policy.hints:
            return attained
        trust = self.absence.trust(turn.program)
        return trust * self.service.tokens_in(declared.remaining_s) + (1 - trust) * attained

    def _admit(self, turn: ev.Turn, choice: Choice, arrived_s: float) -> ev.Instruction:
        replica = choice.replica
        if replica is None:
            raise Bug("an admitted turn has a replica")
        replica.spend(choice.evicts)
        warm = turn.prompt_tokens - choice.uncached
        overflow = choice.reason is ev.Reason.OVERFLOW
        self._flights.begin(Flight(turn, replica, choice.uncached, warm, self._now_s, overflow), self._now_s)
        return ev.Admit(
            turn_id=turn.id,
            replica=replica.name,
            reason=choice.reason,
            uncached_tokens=choice.uncached,
            held_s=self._now_s - arrived_s,
        )

    def _let_go(self, turn: ev.Turn, arrived_s: float) -> ev.Instruction:
        """No replica is known: the picker decides, and nothing is followed."""
        held_s = self._now_s - arrived_s
        return ev.Admit(
            turn_id=turn.id, replica=None, reason=ev.Reason.ONLY, uncached_tokens=0, held_s=held_s
        )

    def _ended(self, ended: ev.Ended) -> None:
        flight = self._flights.get(ended.turn_id)
        if flight is None:
            return
        if not flight.prefilling:
            took_s = self._now_s - flight.first_s
            self._placing.decoding.learn(flight.beside, ended.output_tokens, took_s)
        self._flights.land(flight)
        turn = flight.turn
        if not flight.stays:
            return
        cached = flight.warm if ended.cached_tokens is None else ended.cached_tokens
        if not turn.side:
            self.service.charge(turn.run, max(0, ended.prompt_tokens - cached), self._now_s)
        if self._flights.known(flight):
            witness = flight.host.witness
            witness.end(flight.uncached, witness.stored_by(ended, flight.warm), flight.epoch)
            self.ledger.end(
                turn.session,
                flight.replica,
                ended.prompt_tokens + ended.output_tokens,
                self._now_s,
                cached=ended.cached_tokens,
                expected=flight.warm,
            )
        if not turn.side:
            self._rest(turn)

    def _failed(self, turn_id: str) -> None:
        held = self.waiting.pop(turn_id)
        flight = self._flights.get(turn_id)
        if held is not None:
            self._rest(held.turn)
        elif flight is not None:
            self._flights.cancel(flight, self._now_s)
            if not flight.turn.side:
                self._rest(flight.turn)

    def _moved(self, turn_id: str, replica: str) -> None:
        flight = self._flights.get(turn_id)
        host = self._placing.replicas.get(replica)
        if flight is None or host is None or flight.host is host:
            return
        self._flights.cancel(flight, self._now_s)
        warm = self._placing.warm(flight.turn).get(replica, 0)
        uncached = flight.turn.prompt_tokens - warm
        moved = Flight(flight.turn, host, uncached, warm, self._now_s, overflow=False)
        self._flights.begin(moved, self._now_s)

    def _released(self, turn_id: str) -> Iterable[ev.Instruction]:
        held = self.waiting.pop(turn_id)
        if held is not None and self._placing.replicas:
            choice = self._placing.anywhere(held.turn, ev.Reason.ROOM)
            yield self._admit(held.turn, choice, held.arrived_s)
        elif held is not None:
            yield self._let_go(held.turn, held.arrived_s)

    def _replaced(self, turn_id: str, by: ev.Turn) -> None:
        held = self.waiting.pop(turn_id)
        if held is None or by.id in self.waiting or by.id in self._flights:
            raise Bug(f"{by.id} cannot take the place of {turn_id}")
        held.turn = replace(by, max_hold_s=held.turn.max_hold_s)
        self.waiting.add(held)

    def _rest(self, turn: ev.Turn) -> None:
        """Its session's tokens are idle, unless another turn of it is under way."""
        if not self._flights.under_way(turn.session):
            self.absence.away(turn, self._now_s)
            self.residents.rest(turn.session, self._now_s)

    # What waits

    def _overdue(self) -> Iterable[ev.Instruction]:
        while (held := self.waiting.overdue(self._now_s)) is not None:
            self.waiting.pop(held.turn.id)
            if self._placing.replicas:
                yield self._admit(held.turn, self._placing.overflow(held.turn), held.arrived_s)
            else:
                yield self._let_go(held.turn, held.arrived_s)

    def _dispatch(self, before: Rank | None = None) -> Iterable[ev.Instruction]:
        """Admit those that can go now, in their order; one that does not fit is passed by.

        Args:
            before: only those that rank before this.
        """
        if not len(self.waiting) or not self._placing.replicas:
            return
        most = self._placing.most_room(self._now_s)
        for held in self.waiting.first(self.policy.lookahead):
            if before is not None and held.rank > before:
                return
            if self._still(held, most):
                continue
            choice = self._choose(held.turn)
            held.home, held.reason = choice.home, choice.reason
            if choice.replica is not None:
                self.waiting.pop(held.turn.id)
                yield self._admit(held.turn, choice, held.arrived_s)
                most = self._placing.most_room(self._now_s)

    def _still(self, held: Held, most: float) -> bool:
        """Nothing that it waits for can have come: cheaper than to choose again, of which there are many."""
        if held.reason is ev.Reason.SIBLING:
            return bool(self._leaders(held.turn))
        if held.turn.prompt_tokens - self.residents.own(held.turn.session) <= most:
            return False
        home = self._placing.replicas.get(held.home) if held.home else None
        return held.home is None or (
            home is not None and not home.takes(self.policy.small_tokens + 1, self.policy)
        )

    # Replicas and runs

    def _seen(self, seen: ev.ReplicaSeen) -> None:
        self.ledger.replica(seen.name, seen.capacity_tokens)
        self._placing.changed()
        known = self._placing.replicas.get(seen.name)
        if known is None:
            self._placing.replicas[seen.name] = Replica(seen.name, seen.max_seqs)
        else:
            known.max_seqs = seen.max_seqs

    def _gone(self, name: str) -> None:
        self._placing.replicas.pop(name, None)
        self._placing.changed()
        self.ledger.gone(name)
        self.residents.gone(name)

    def _witnessed(self, news: Iterable[ev.CacheNews]) -> None:
        """What others stored pushes out what is oldest here; a cache that was emptied has nothing."""
        for one in news:
            host = self._placing.replicas.get(one.replica)
            if host is None:
                continue
            if one.cleared:
                self.ledger.cleared(one.replica)
            others = host.witness.see(one, self.ledger.capacity(one.replica))
            self.ledger.others(one.replica, others)
            self.others_tokens += others
            self._placing.changed()

    def _run_ended(self, run: str) -> Iterable[ev.Instruction]:
        self.service.end(run)
        for session in self.absence.over(run):
            where = tuple(self.ledger.where(session))
            self.residents.forget(session)
            self.ledger.drop(session)
            if where:
                yield ev.Drop(session, where)

    def _look(self, session: str, away_s: float) -> tuple[float, int]:
        home = self.residents.home(session)
        tokens = self.ledger.warm(session, home) if home else 0
        return self.absence.weight(session, away_s), tokens
