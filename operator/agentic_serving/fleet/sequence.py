"""One request inside a replica: how far it is and what it holds."""

from enum import Enum

from agentic_serving.capacity.runs import blocks
from agentic_serving.fleet.pool import Holding
from agentic_serving.fleet.types import Finished, Request, Source, Usage

__all__ = ["Sequence", "State"]


class State(Enum):
    WAITING = "waiting"  # holds nothing
    FETCHING = "fetching"  # holds blocks that a tier or a prefill replica fills; done at `ready_s`
    RUNNING = "running"
    ENDED = "ended"  # finished or aborted


class Sequence:
    """Mutable state of one request. `tokens` are known ones, `computed` of them have their KV in `holding`."""

    __slots__ = (
        "arrived_s",
        "cached",
        "computed",
        "emitted",
        "fetched",
        "first_token_s",
        "hashable",
        "holding",
        "id",
        "preemptions",
        "ready_s",
        "request",
        "scheduled_s",
        "settled",
        "state",
        "tokens",
        "urgency",
    )

    def __init__(self, request: Request, arrived_s: float, rank: int) -> None:
        self.request = request
        self.id = request.id
        self.arrived_s = arrived_s
        #: Sort key: lower is scheduled first and preempted last. The rank keeps equal arrivals apart.
        self.urgency = (request.priority, arrived_s, rank)
        self.state = State.WAITING
        self.holding = Holding()
        self.tokens = request.prompt_tokens
        self.computed = 0
        #: Up to so many tokens `holding` stays as it is: nothing to take, nothing to give an identity.
        self.settled = 0
        self.emitted = 0
        self.hashable = blocks(request.runs)
        self.preemptions = 0
        self.ready_s = 0.0
        self.fetched = 0  # tokens, once a load has been asked for
        self.cached: dict[Source, int] = {}
        self.scheduled_s: float | None = None
        self.first_token_s: float | None = None

    @property
    def remaining(self) -> int:
        """Answer tokens to come."""
        return self.request.output_tokens - self.emitted

    @property
    def decoding(self) -> bool:
        """Only the newest token of the answer has to be computed."""
        return self.emitted > 0 and self.computed == self.tokens - 1

    def emit(self, count: int, now_s: float) -> None:
        self.emitted += count
        self.tokens += count
        if self.first_token_s is None:
            self.first_token_s = now_s

    def finish(self, now_s: float) -> Finished:
        """The record of its end; every field is known by then."""
        return Finished(
            id=self.id,
            usage=Usage(
                prompt_tokens=self.request.prompt_tokens, output_tokens=self.emitted, cached=self.cached
            ),
            arrived_s=self.arrived_s,
            scheduled_s=self.arrived_s if self.scheduled_s is None else self.scheduled_s,
            first_token_s=now_s if self.first_token_s is None else self.first_token_s,
            finished_s=now_s,
            preemptions=self.preemptions,
        )
