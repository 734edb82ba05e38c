"""Our own scheduler as a policy of the simulation: what it is told here is what a router tells it.

What a router gets from the session graph, which session's prompt begins like this one, is found from block ids here.
"""

# ruff: noqa: ARG002 - every policy is called alike, whatever it looks at

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agentic_serving.capacity.runs import Runs, common_blocks
from agentic_serving.fleet.types import Usage
from agentic_serving.program import events as ev
from agentic_serving.program.policy import Policy as Rules
from agentic_serving.program.scheduler import Scheduler
from agentic_serving.program.service import Service
from agentic_serving.simulation.engine import MakeSeated
from agentic_serving.simulation.setup import Fleet, Setup
from agentic_serving.simulation.views import Ended, Policy, ReplicaView, TurnView, WarmUp

__all__ = ["OURS", "Hosted", "Ours"]

#: Sessions of a run whose prompts a new session's first prompt is compared with: the latest.
_SIBLINGS = 32
#: The session graph names four owners of a prefix; some more make up for the copies that are never on one replica.
_SHARES = 8
_SOON_S = 0.001


class Hosted:
    """The policy `agentic`.

    Args:
        share: of every cache, what this router may count on. In a cluster one scheduler is active for all routers of a
            stack; routers that know nothing of each other's turns are worse off.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        max_hold_s: float = 300.0,
        service: Service | None = None,
        share: float = 1.0,
        on_instruction: Callable[[ev.Instruction], None] | None = None,
    ) -> None:
        self.scheduler = Scheduler(rules, service=service)
        self._max_hold_s = max_hold_s
        self._share = share
        self._on_instruction = on_instruction
        self._prompts: dict[str, dict[str, Runs]] = {}  # by run, by session: the last prompt
        self._told: set[str] = set()  # turns that wait and were told of
        self._admitted: dict[str, str | None] = {}  # turns that may go, and where to; None: anywhere
        self._ready: set[str] = set()
        self._news: list[TurnView] | None = None  # what arrived since the last question
        self._arriving: TurnView | None = None
        self._warm_ups: list[WarmUp] = []  # to begin

    def ready(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        """The first question of every round: tells which replicas came and went."""
        ready = {str(one.index) for one in replicas if one.ready}
        if ready != self._ready:
            before, self._ready = self._ready, ready
            for name in sorted(before - ready):
                self._handle(ev.ReplicaGone(name), now_s)
            for one in replicas:
                if str(one.index) in ready - before:
                    self._handle(self._seen(one), now_s)
        return True

    def _seen(self, view: ReplicaView) -> ev.ReplicaSeen:
        capacity = int(view.cache_tokens * self._share)
        return ev.ReplicaSeen(name=str(view.index), capacity_tokens=capacity, max_seqs=view.max_seqs)

    def order(self, waiting: Sequence[TurnView], now_s: float) -> Sequence[TurnView]:
        """What is new is told with the first question for a place, which brings the replicas."""
        self._news = [turn for turn in waiting if turn.id not in self._told]
        return waiting

    def place(self, turn: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> int | None:
        if self._news is not None:
            self._tell(self._news, replicas, now_s)
            self._news = None
        if turn.id not in self._admitted or not self._ready:
            return None
        asked = self._admitted.pop(turn.id)
        if asked not in self._ready:  # it died between the word and the deed, or none was known
            self._handle(ev.Failed(turn.id), now_s)
            self._arrive(turn, replicas, now_s)
            asked = self._admitted.pop(turn.id, None)
        if asked is None:
            return None
        self._told.discard(turn.id)
        return int(asked)

    def on_first_token(self, turn_id: str, replica: int, now_s: float) -> None:
        self._handle(ev.FirstToken(turn_id), now_s)

    def on_finish(self, ended: Ended) -> None:
        usage = ended.usage
        self._handle(
            ev.Ended(
                turn_id=ended.turn.id,
                prompt_tokens=usage.prompt_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens,
            ),
            ended.finished_s,
        )

    def on_fail(self, turn: TurnView, replica: int | None, now_s: float) -> None:
        self._told.discard(turn.id)
        self._admitted.pop(turn.id, None)
        self._handle(ev.Failed(turn.id), now_s)

    def on_end(self, program: str, now_s: float) -> None:
        self._prompts.pop(program, None)
        self._handle(ev.RunEnded(program), now_s)

    def warm_ups(self) -> Sequence[WarmUp]:
        found, self._warm_ups = self._warm_ups, []
        return found

    def on_warmed(self, warm_up: WarmUp, usage: Usage | None, now_s: float) -> None:
        if usage is None:
            self._handle(ev.Failed(warm_up.id), now_s)
            return
        ended = ev.Ended(
            turn_id=warm_up.id,
            prompt_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
        )
        self._handle(ended, now_s)

    def wake_s(self, now_s: float) -> float | None:
        if self._admitted and self._ready:
            return now_s + _SOON_S  # admitted after the router had asked about it
        return self.scheduler.wake_s

    def _tell(self, news: Sequence[TurnView], replicas: Sequence[ReplicaView], now_s: float) -> None:
        for view in news:
            self._told.add(view.id)
            self._arrive(view, replicas, now_s)
        if not news:
            self._handle(ev.Tick(), now_s)

    def _arrive(self, view: TurnView, replicas: Sequence[ReplicaView], now_s: float) -> None:
        self._arriving = view
        self._handle(ev.Arrived(self._turn(view, replicas[0].block_size)), now_s)

    def _handle(self, event: ev.Event, now_s: float) -> None:
        for instruction in self.scheduler.handle(event, now_s):
            if isinstance(instruction, ev.Admit):
                self._admitted[instruction.turn_id] = instruction.replica
            elif isinstance(instruction, ev.Warm) and self._arriving is not None:
                self._warm_ups.append(WarmUp(instruction.id, self._arriving, int(instruction.replica)))
            if self._on_instruction is not None:
                self._on_instruction(instruction)

    def _turn(self, view: TurnView, block_size: int) -> ev.Turn:
        declared = view.hints
        return ev.Turn(
            id=view.id,
            program="default",
            run=view.program,
            session=view.session,
            prompt_tokens=view.prompt_tokens,
            shares=self._shares(view, block_size),
            human=view.kind == "human" and view.parent is None,
            max_hold_s=self._max_hold_s,
            fork=0 if declared is None else declared.forks,
            declared=None
            if declared is None
            else ev.Declared(gap_s=declared.gap_s, remaining_s=declared.critical_s),
        )

    def _shares(self, view: TurnView, block_size: int) -> tuple[ev.Share, ...]:
        prompts = self._prompts.setdefault(view.program, {})
        own = prompts.pop(view.session, None)
        found: list[ev.Share] = []
        if own is not None:
            found.append(ev.Share(view.session, common_blocks(own, view.runs) * block_size))
        else:
            for session in list(prompts)[-_SIBLINGS:]:
                tokens = common_blocks(prompts[session], view.runs) * block_size
                if tokens:
                    found.append(ev.Share(session, tokens))
            found.sort(key=lambda share: -share.tokens)
            del found[_SHARES:]
        prompts[view.session] = view.runs
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Ours:
    """Makes a fresh policy for a fleet and a seed; a value, so that other processes can make it too."""

    rules: Rules = Rules()  # noqa: RUF009 - frozen
    max_hold_s: float = 300.0

    def __call__(self, fleet: Fleet, seed: int) -> Policy:
        return Hosted(self.rules, max_hold_s=self.max_hold_s)

    def linked(self, setup: Setup, seed: int) -> MakeSeated:
        """Schedulers of one simulation know a run's attained service wherever it was attained."""
        service = Service()
        share = 1 / setup.routers
        return lambda _seat: Hosted(self.rules, max_hold_s=self.max_hold_s, service=service, share=share)


OURS: Mapping[str, Ours] = {"agentic": Ours()}
