"""One router: the turns that wait in it, what it knows of replicas, and its policy's decisions carried out."""

from collections.abc import Callable
from functools import partial

from agentic_serving.errors import Bug
from agentic_serving.fleet.types import Finished
from agentic_serving.simulation.gauges import Gauges
from agentic_serving.simulation.prefill import Desk
from agentic_serving.simulation.runs import Call
from agentic_serving.simulation.timeline import Timeline
from agentic_serving.simulation.views import (
    Ended,
    Policy,
    ReplicaView,
    SeesFailures,
    SeesFirstTokens,
    WarmsUp,
    WarmUp,
)

__all__ = ["Router"]


class Router:
    """Sees its own turns only.

    Args:
        send: takes a placed call to its replica, or first to the one that prefills it.
        desk: None: nothing is prefilled apart.
        warm: takes a warm-up to its replica.

    Attributes:
        held_s: the longest that a turn was held and then placed.
        misplaced: turns that the policy sent to a replica that was down.
    """

    def __init__(
        self,
        policy: Policy,
        gauges: Gauges,
        timeline: Timeline,
        send: Callable[[Call, int | None], None],
        desk: Desk | None,
        warm: Callable[["Router", WarmUp], None] = lambda *_: None,
    ) -> None:
        self.policy = policy
        self.views = gauges.views()
        self.waiting: dict[str, Call] = {}
        self.held_s = 0.0
        self.misplaced = 0
        self.desk = desk
        self.on_first_token = policy.on_first_token if isinstance(policy, SeesFirstTokens) else None
        self._warms = policy if isinstance(policy, WarmsUp) else None
        self._warm = warm
        self._on_fail = policy.on_fail if isinstance(policy, SeesFailures) else None
        self._gauges = gauges
        self._timeline = timeline
        self._send = send
        self._wake_s: float | None = None

    def arrive(self, call: Call) -> None:
        self.waiting[call.view.id] = call
        self._timeline.changed = True

    def dispatch(self) -> None:
        """Ask the policy about every turn that waits."""
        policy, now_s = self.policy, self._timeline.now_s
        for view in self.views:
            view.renew()
        if policy.ready(self.views, now_s):
            for turn in policy.order([call.view for call in self.waiting.values()], now_s):
                index = policy.place(turn, self.views, now_s)
                if index is None or not self._place(turn.id, index):
                    continue
                if not policy.ready(self.views, now_s):
                    break
        for one in self._warms.warm_ups() if self._warms is not None else ():
            self._warm(self, one)
        if self.waiting:
            self._ask_again()

    def finish(self, call: Call, done: Finished) -> None:
        """An answer has ended."""
        self._leave(call)
        self.policy.on_finish(
            Ended(
                turn=call.view,
                replica=call.replica,
                usage=done.usage,
                placed_s=call.placed_s,
                first_token_s=done.first_token_s,
                finished_s=done.finished_s,
                prefill=call.prefill if call.prefilled else None,
            )
        )

    def warmed(self, warm_up: WarmUp, done: Finished | None) -> None:
        """A warm-up is over; None: it came to nothing."""
        self._timeline.changed = True
        if self._warms is not None:
            usage = done.usage if done is not None else None
            self._warms.on_warmed(warm_up, usage, self._timeline.now_s)

    def fail(self, call: Call) -> None:
        """A turn has ended without an answer."""
        held = self.waiting.pop(call.view.id, None) is not None
        if not held:
            self._leave(call)
        self._timeline.changed = True
        if self._on_fail is not None:
            self._on_fail(call.view, None if held else call.replica, self._timeline.now_s)

    def _leave(self, call: Call) -> None:
        view = self.views[call.replica]
        view.turns -= 1
        view.prompt_tokens -= call.view.prompt_tokens

    def _place(self, turn_id: str, index: int) -> bool:
        """Send a turn; False: no replica is up."""
        if not 0 <= index < len(self.views):
            raise Bug(f"there is no replica {index}")
        view: ReplicaView | None = self.views[index]
        if view is not None and not view.ready:
            self.misplaced += 1
            view = self._least_loaded()
        if view is None:
            return False
        now_s = self._timeline.now_s
        call = self.waiting.pop(turn_id)
        call.placed_s, call.replica = now_s, view.index
        self.held_s = max(self.held_s, now_s - call.view.arrived_s)
        prefill = self.desk.choose(call.view, view.index, now_s) if self.desk is not None else None
        self._send(call, prefill)
        view.turns += 1
        view.prompt_tokens += call.view.prompt_tokens
        view.renew()
        return True

    def _least_loaded(self) -> ReplicaView | None:
        up = [view for view in self.views if view.ready]
        return min(up, key=lambda view: (view.turns, view.prompt_tokens, view.index), default=None)

    def _ask_again(self) -> None:
        now_s = self._timeline.now_s
        times = [at_s for at_s in (self.policy.wake_s(now_s), self._gauges.renewed_s) if at_s is not None]
        wake_s = min((at_s for at_s in times if at_s > now_s), default=None)
        if wake_s is not None and wake_s != self._wake_s:
            self._wake_s = wake_s
            self._timeline.push(wake_s, partial(self._wake, wake_s))

    def _wake(self, wake_s: float) -> None:
        if wake_s == self._wake_s:
            self._wake_s, self._timeline.changed = None, True
