"""Equal replicas in virtual time: each skips to its next change."""

from collections.abc import Callable
from functools import partial

from agentic_serving.fleet.replica import MANY_STEPS, Replica
from agentic_serving.fleet.types import Outcome, Request
from agentic_serving.simulation.timeline import Timeline

__all__ = ["Engines"]


class Engines:
    """Replicas by index.

    Args:
        make: a new replica, with nothing in its cache.
        on_outcome: told of every step's end, by the replica's index.
    """

    def __init__(
        self,
        make: Callable[[], Replica],
        n_replicas: int,
        timeline: Timeline,
        on_outcome: Callable[[int, Outcome], None],
    ) -> None:
        self.replicas = [make() for _ in range(n_replicas)]
        self.up = [True] * n_replicas
        self._make = make
        self._timeline = timeline
        self._on_outcome = on_outcome
        self._expected_s: list[float | None] = [None] * n_replicas  # other events of a replica are void
        self._idle: set[int] = set()  # replicas that may begin a step now

    def admit(self, index: int, request: Request) -> None:
        """Queue a request."""
        self.replicas[index].admit(request, self._timeline.now_s)
        self._touch(index)

    def abort(self, index: int, request_id: str) -> None:
        """Drop a request, if it is there."""
        if self.replicas[index].abort(request_id, self._timeline.now_s):
            self._touch(index)

    def release(self, index: int, request_id: str) -> None:
        """Free what a finished request holds for another replica, if it does."""
        if self.replicas[index].release(request_id, self._timeline.now_s):
            self._touch(index)

    def begin(self) -> None:
        """Let every replica that may begin a step begin it."""
        for index in sorted(self._idle):
            replica = self.replicas[index]
            step = replica.begin(self._timeline.now_s, max_steps=MANY_STEPS)
            self._expect(index, replica.wake_s if step is None else step.end_s)
        self._idle.clear()

    def stop(self, index: int) -> None:
        """A replica dies, with all that it had."""
        self.up[index] = False
        self.replicas[index] = self._make()
        self._expected_s[index] = None
        self._idle.discard(index)

    def start(self, index: int) -> None:
        """A replica is there again, with an empty cache."""
        self.up[index] = True

    def _touch(self, index: int) -> None:
        step = self.replicas[index].step
        if step is None:
            self._idle.add(index)
        else:  # a step that was skipping ends earlier now
            self._expect(index, step.end_s)

    def _expect(self, index: int, at_s: float | None) -> None:
        if at_s != self._expected_s[index]:
            self._expected_s[index] = at_s
            if at_s is not None:
                self._timeline.push(at_s, partial(self._advance, index))

    def _advance(self, index: int) -> None:
        if self._expected_s[index] != self._timeline.now_s:
            return  # void: the step was cut
        self._expected_s[index] = None
        self._idle.add(index)
        replica = self.replicas[index]
        if replica.step is not None:  # else KV that was being loaded has arrived
            self._on_outcome(index, replica.end())
