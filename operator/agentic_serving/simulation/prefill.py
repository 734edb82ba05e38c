"""Prefill apart from decoding: which replica prefills a turn, and how its KV gets to where it decodes.

As llm-d has it: the router chooses where a turn decodes and, if much of its prompt is not cached there, where it is
prefilled. The decode replica's sidecar sends it there first, for one token that nobody sees, and then to its own engine,
which fetches the KV when it has room; the prefill replica keeps it until then (leases that end earlier are not modelled). If
the prefill fails, the turn is prefilled where it decodes.
"""

from collections.abc import Callable, Sequence

from agentic_serving.errors import Bug
from agentic_serving.fleet.types import Outcome
from agentic_serving.simulation.baselines.prefix import PrefixIndex
from agentic_serving.simulation.engines import Engines
from agentic_serving.simulation.fleets import Fleet
from agentic_serving.simulation.gauges import Gauges
from agentic_serving.simulation.runs import Call
from agentic_serving.simulation.timeline import Timeline
from agentic_serving.simulation.views import Policy, ReplicaView, SplitsPrefill, TurnView

__all__ = ["Desk", "LeastWork", "Prefill"]


class LeastWork:
    """Where a policy does not say: the replica that has least to compute, this prompt's uncached part included.

    What is cached is guessed from the prompts that were sent there, as llm-d's approximate index does.
    """

    def __init__(self) -> None:
        self._index = PrefixIndex()
        self._work: dict[int, float] = {}  # uncached tokens under way, by replica
        self._charged: dict[str, tuple[int, float]] = {}  # by turn

    def place_prefill(
        self, turn: TurnView, replicas: Sequence[ReplicaView], decode: int, now_s: float
    ) -> int | None:
        del decode, now_s
        up = [one for one in replicas if one.ready]
        if not up:
            return None
        tokens = [turn.prompt_tokens * (1 - share) for share in self._index.shares(turn.runs, up)]
        work = [self._work.get(one.index, 0.0) + more for one, more in zip(up, tokens, strict=True)]
        at = work.index(min(work))
        found = up[at]
        self._work[found.index] = work[at]
        self._charged[turn.id] = (found.index, tokens[at])
        self._index.add(turn.runs, found)
        return found.index

    def done(self, turn: TurnView) -> None:
        """It has been prefilled, or never will be."""
        index, tokens = self._charged.pop(turn.id, (-1, 0.0))
        if index >= 0:
            self._work[index] -= tokens


class Prefill:
    """The replicas of one stack that only prefill.

    Args:
        on_prefilled: told of every call whose KV can be fetched now.
    """

    def __init__(self, fleet: Fleet, timeline: Timeline, on_prefilled: Callable[[Call], None]) -> None:
        if fleet.prefill is None:
            raise Bug("nothing is prefilled apart")
        self.pool = fleet.prefill
        self.limits = fleet.prefill_limits
        self.engines = Engines(fleet.prefill_replica, self.pool.n_replicas, timeline, self._on_outcome)
        self._timeline = timeline
        self._on_prefilled = on_prefilled
        self._asked: dict[str, Call] = {}
        self._kept: dict[str, Call] = {}  # whose KV waits to be fetched

    def send(self, call: Call, index: int) -> None:
        call.prefill = index
        self._asked[call.view.id] = call
        self.engines.admit(index, call.prefill_request())

    def fetched(self, request_id: str) -> None:
        """The decode replica has the KV, or needs none."""
        call = self._kept.pop(request_id, None)
        if call is not None and call.prefill is not None:
            self.engines.release(call.prefill, request_id)

    def drop(self, call: Call) -> bool:
        """Nobody wants the KV any more; True: it was still being computed."""
        self.fetched(call.view.id)
        asked = self._asked.pop(call.view.id, None)
        if asked is not None and asked.prefill is not None:
            self.engines.abort(asked.prefill, call.view.id)
        return asked is not None

    def stop(self, index: int) -> tuple[list[Call], list[Call]]:
        """A replica dies: the calls that it was prefilling, and those whose KV is lost."""
        asked = [call for call in self._asked.values() if call.prefill == index]
        kept = [call for call in self._kept.values() if call.prefill == index]
        for call in asked:
            del self._asked[call.view.id]
        for call in kept:
            del self._kept[call.view.id]
        for call in (*asked, *kept):
            call.prefilled = None
        self.engines.stop(index)
        return asked, kept

    def _on_outcome(self, _index: int, outcome: Outcome) -> None:
        for done in outcome.finished:
            call = self._asked.pop(done.id)
            call.prefilled = done
            self._kept[done.id] = call
            self._timeline.changed = True
            self._on_prefilled(call)


class Desk:
    """What one router does about prefill: its own views, and its policy's word or `LeastWork`."""

    def __init__(self, prefill: Prefill, decode: Engines, gauges: Gauges, policy: Policy) -> None:
        self._prefill = prefill
        self._decode = decode
        self._least = LeastWork()
        self._policy: SplitsPrefill = policy if isinstance(policy, SplitsPrefill) else self._least
        self.views = gauges.views()

    def choose(self, turn: TurnView, decode: int, now_s: float) -> int | None:
        """The replica that is to prefill a turn which decodes there; None: the same."""
        cached = self._decode.replicas[decode].cached_tokens(turn.runs, turn.prompt_tokens, now_s)
        if turn.prompt_tokens - cached < self._prefill.pool.uncached_token_threshold:
            return None
        if turn.prompt_tokens >= self._prefill.limits.usable_tokens:
            return None
        for view in self.views:
            view.renew()
        index = self._policy.place_prefill(turn, self.views, decode, now_s)
        if index is None:
            return None
        if not 0 <= index < len(self.views):
            raise Bug(f"there is no replica {index} that prefills")
        if not self.views[index].ready:
            return None  # the sidecar's call is refused, and it goes on alone
        self._count(turn, index, 1)
        return index

    def done(self, turn: TurnView, index: int) -> None:
        """It is not being prefilled there any more."""
        self._least.done(turn)
        self._count(turn, index, -1)

    def _count(self, turn: TurnView, index: int, sign: int) -> None:
        view = self.views[index]
        view.turns += sign
        view.prompt_tokens += sign * turn.prompt_tokens
