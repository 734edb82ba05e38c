"""One prefix on more replicas than one, before the queue there shows that it pays: for siblings that wait, or are declared.

Siblings that share a prefix gather where it is, and slow each other down. `n` of them on `k + 1` replicas instead of `k` have
n / (k (k + 1)) turns fewer beside each where nobody else is, and not so many fewer where the further one has turns already. That
is worth n times as many seconds as a turn beside costs an answer; the price is the prefill of the prefix, once for itself and once
for each turn that decodes beside it. `spread_gain` and `warm_gain` say how many times the price the gain must be.

A sibling that is here computes the prefix as part of its own turn, which costs nothing more than that. For those that are only
declared a request for one token does it (`events.Warm`). Not counted: what siblings compute themselves, and their later turns.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from math import sqrt

from agentic_serving.program.events import Reason, Turn, Warm
from agentic_serving.program.flights import Flight, Flights
from agentic_serving.program.placing import Choice, Placing
from agentic_serving.program.policy import Policy
from agentic_serving.program.replicas import Replica
from agentic_serving.program.waiting import Waiting

__all__ = ["Warming"]

#: About the last ten declared forks of a program say how many of the children that it declares come.
_TRUST_WEIGHT = 0.1
_FIRST_TRUST = 0.5
#: A child begins with at least so much of the prompt that it was declared for.
_LEAST_SHARE = 0.5
#: A fork of more counts as one of so many: enough for ten replicas, and a false word is found out after some thirty.
_MOST_SIBLINGS = 64
#: Forks whose children are counted at the same time: more sessions than that do not fork at once on a stack.
_MOST_FORKS = 4096


@dataclass(slots=True)
class _Fork:
    program: str
    tokens: int
    declared: int
    since_s: float
    came: int = 0


class _Forks:
    """Declared forks, and how many of the children that a program declares come."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Fork] = OrderedDict()  # by the session that they are to share with
        self._trust: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._open)

    def trust(self, program: str) -> float:
        """Of the children that the program's clients declare, the share that comes; 0.5 before anything is known."""
        return self._trust.get(program, _FIRST_TRUST)

    def arrived(self, turn: Turn, now_s: float, within_s: float) -> None:
        """A turn came, of a child perhaps, or it declares some; what was declared so long ago is judged."""
        while self._open and next(iter(self._open.values())).since_s <= now_s - within_s:
            self._judge(self._open.popitem(last=False)[1])
        if turn.shares and turn.shares[0].session != turn.session:  # a session's first turn
            for share in turn.shares:
                fork = self._open.get(share.session)
                if fork is not None and share.tokens >= _LEAST_SHARE * fork.tokens:
                    fork.came += 1
                    break
        if turn.fork > 0 and not turn.side:
            before = self._open.pop(turn.session, None)
            if before is not None:
                self._judge(before)
            self._open[turn.session] = _Fork(turn.program, turn.prompt_tokens, turn.fork, now_s)
            if len(self._open) > _MOST_FORKS:
                self._judge(self._open.popitem(last=False)[1])

    def _judge(self, fork: _Fork) -> None:
        before = self.trust(fork.program)
        share = min(1.0, fork.came / fork.declared)
        self._trust[fork.program] = before + _TRUST_WEIGHT * (share - before)


class Warming:
    """The rule, and what comes of it."""

    def __init__(self, policy: Policy, placing: Placing, flights: Flights) -> None:
        self._policy = policy
        self._placing = placing
        self._flights = flights
        self._forks = _Forks()

    def configure(self, policy: Policy) -> None:
        self._policy = policy

    def arrived(self, turn: Turn, now_s: float) -> None:
        """A turn came, of whatever session."""
        self._forks.arrived(turn, now_s, self._policy.return_within_s)

    def spread(
        self, turn: Turn, shared_tokens: int, leaders: Collection[str], waiting: Waiting, now_s: float
    ) -> Choice | None:
        """So many wait for what the leaders compute that this turn should compute it as well, elsewhere. None: it waits too."""
        if not self._policy.spread:
            return None
        held = waiting.first(self._policy.lookahead)
        siblings = sum(one.reason is Reason.SIBLING and one.home in leaders for one in held)
        siblings += len(leaders) + 1
        price = self._policy.spread_gain
        found = self._further(turn, shared_tokens, siblings, frozenset(leaders), price, now_s)
        return None if found is None else replace(found, reason=Reason.SPREAD)

    def begin(self, turn: Turn, host: Replica, now_s: float) -> Iterator[Warm]:
        """A turn was admitted whose siblings are still to come: further replicas may compute its prompt meanwhile."""
        policy = self._policy
        if not policy.warm_up or not policy.hints or turn.side or turn.fork < 1:
            return
        # Not the children that are believed in, but the gain, which goes with their square.
        siblings = min(turn.fork, _MOST_SIBLINGS) * sqrt(self._forks.trust(turn.program))
        least = turn.prompt_tokens - policy.shared_tokens
        there = {name for name, tokens in self._placing.warm(turn).items() if tokens >= least}
        there.add(host.name)
        price, tokens = policy.warm_gain, turn.prompt_tokens
        while found := self._further(turn, tokens, siblings, frozenset(there), price, now_s):
            if found.replica is None:
                return
            there.add(found.replica.name)
            yield self._begun(turn, found, found.replica, now_s)

    def _further(
        self,
        turn: Turn,
        shared_tokens: int,
        siblings: float,
        there: frozenset[str],
        price: float,
        now_s: float,
    ) -> Choice | None:
        """A replica that should compute what a turn shares, beside those that have or compute it; None: that does not pay.

        Args:
            siblings: all that begin with that and will be answered, this one with them.
            price: seconds to be saved for each that it costs.
        """
        if shared_tokens < self._policy.shared_tokens:
            return None
        found = self._placing.elsewhere(turn, there, now_s)
        if found is None or found.replica is None:
            return None
        cost_s = found.replica.cost_s(min(shared_tokens, found.uncached))
        return found if self._gain_s(siblings, there, found.replica) >= price * cost_s else None

    def _gain_s(self, siblings: float, there: Collection[str], more: Replica) -> float:
        """What all of them save together if they have one replica more than these, beside the turns that are there already."""
        k = len(there)
        known = [self._placing.replicas[name] for name in there if name in self._placing.replicas]
        turns = siblings + max(0, sum(one.turns for one in known) - k)  # who computes it now is one of them
        fewer = turns / k - (turns + more.turns) / (k + 1)
        return siblings * self._placing.decoding.drag_s * max(0.0, fewer)

    def _begun(self, turn: Turn, choice: Choice, replica: Replica, now_s: float) -> Warm:
        warm = Warm(
            turn_id=turn.id, replica=replica.name, uncached_tokens=choice.uncached, siblings=turn.fork
        )
        replica.spend(choice.evicts)
        own = replace(turn, id=warm.id, side=True, fork=0)
        known = turn.prompt_tokens - choice.uncached
        self._flights.begin(
            Flight(own, replica, choice.uncached, known, now_s, overflow=False, warm_up=True), now_s
        )
        return warm
