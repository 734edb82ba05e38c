"""Drives a scheduler by hand: replicas of 100,000 tokens, turns by session name."""

from typing import Any

from agentic_serving.program import events as ev
from agentic_serving.program.policy import Policy
from agentic_serving.program.scheduler import Scheduler

CAPACITY = 100_000


class Driver:
    """A host: remembers what it was told of each turn, and never lets a turn go twice."""

    def __init__(
        self, n_replicas: int = 2, policy: Policy | None = None, *, capacity: int = CAPACITY
    ) -> None:
        self.scheduler = Scheduler(policy)
        self.now_s = 0.0
        self.admits: dict[str, ev.Admit] = {}
        self.holds: dict[str, ev.Hold] = {}
        self.drops: list[ev.Drop] = []
        self.warms: list[ev.Warm] = []
        self.order: list[str] = []  # turns as they were admitted
        self.tokens: dict[str, int] = {}
        for i in range(n_replicas):
            self.seen(f"r{i}", capacity)

    def do(self, event: ev.Event, at_s: float | None = None) -> list[ev.Instruction]:
        self.now_s = self.now_s if at_s is None else at_s
        told = self.scheduler.handle(event, self.now_s)
        self.scheduler.check()
        for one in told:
            if isinstance(one, ev.Admit):
                assert one.turn_id not in self.admits, "admitted twice"
                self.admits[one.turn_id] = one
                self.order.append(one.turn_id)
            elif isinstance(one, ev.Hold):
                self.holds[one.turn_id] = one
            elif isinstance(one, ev.Warm):
                self.warms.append(one)
            else:
                self.drops.append(one)
        return told

    def seen(self, name: str, capacity: int = CAPACITY, *, max_seqs: int = 256) -> None:
        self.do(ev.ReplicaSeen(name=name, capacity_tokens=capacity, max_seqs=max_seqs))

    def arrive(
        self, turn_id: str, tokens: int, *, own: int = 0, shares: dict[str, int] | None = None, **fields: Any
    ) -> None:
        """A turn `session.number` of run `session`, unless said otherwise; `own`: tokens that go on from before."""
        session = fields.pop("session", turn_id.split(".")[0])
        run = fields.pop("run", session)
        known = ((session, own),) if own else ()
        self.tokens[turn_id] = tokens
        turn = ev.Turn(
            id=turn_id,
            program="default",
            run=run,
            session=session,
            prompt_tokens=tokens,
            shares=tuple(ev.Share(*one) for one in (*known, *(shares or {}).items())),
            **fields,
        )
        self.do(ev.Arrived(turn))

    def first_token(self, turn_id: str) -> None:
        self.do(ev.FirstToken(turn_id))

    def end(self, turn_id: str, *, output: int = 0, cached: int | None = None) -> None:
        prompt = self.tokens[turn_id]
        self.do(ev.Ended(turn_id=turn_id, prompt_tokens=prompt, output_tokens=output, cached_tokens=cached))

    def serve(self, turn_id: str, tokens: int, *, output: int = 0, **fields: Any) -> str | None:
        """A whole turn at one moment; where it went."""
        self.arrive(turn_id, tokens, **fields)
        self.first_token(turn_id)
        self.end(turn_id, output=output)
        return self.where(turn_id)

    def tick(self, at_s: float) -> None:
        self.do(ev.Tick(), at_s)

    def run_until(self, at_s: float) -> None:
        """As a host does: a tick whenever the scheduler wants one."""
        while (wake_s := self.scheduler.wake_s) is not None and wake_s <= at_s:
            self.tick(wake_s)
        self.tick(at_s)

    def where(self, turn_id: str) -> str | None:
        return self.admits[turn_id].replica

    def reason(self, turn_id: str) -> ev.Reason:
        """Of its admission, or of why it waits."""
        told = self.admits.get(turn_id) or self.holds[turn_id]
        return told.reason

    def waits(self, turn_id: str) -> bool:
        return turn_id in self.holds and turn_id not in self.admits
