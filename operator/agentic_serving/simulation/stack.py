"""A stack under way: the replicas of one fleet, the routers before them, and the turns that are in between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentic_serving.fleet.types import Finished, Outcome, Request
from agentic_serving.simulation.engines import Engines
from agentic_serving.simulation.fleets import Fleet
from agentic_serving.simulation.gauges import Gauges
from agentic_serving.simulation.prefill import Desk, Prefill
from agentic_serving.simulation.router import Router
from agentic_serving.simulation.runs import Call
from agentic_serving.simulation.setup import Failure
from agentic_serving.simulation.timeline import Timeline
from agentic_serving.simulation.views import Policy, WarmUp

__all__ = ["Stack", "Told"]


@dataclass(frozen=True, slots=True)
class Told:
    """Whom a stack tells of a turn's end: with an answer, or without one."""

    finished: Callable[[Call, Finished], None]
    failed: Callable[[Call], None]


class Stack:
    """Replicas, routers, and who is where.

    Args:
        policies: one for each router.
        scrape_s: how old gauges can be.
        first_tokens: somebody but the policies wants to know which calls have begun.
    """

    def __init__(
        self,
        fleet: Fleet,
        policies: Sequence[Policy],
        timeline: Timeline,
        told: Told,
        *,
        scrape_s: float,
        first_tokens: bool,
    ) -> None:
        self._timeline = timeline
        self._told = told
        self._placed: dict[str, Call] = {}
        self._warming: dict[str, tuple[Router, WarmUp]] = {}
        self._awaited: dict[str, Call] = {}  # whose first token is to be told of
        self.decode = Engines(fleet.replica, fleet.n_replicas, timeline, self._on_decode)
        self.prefill = Prefill(fleet, timeline, self._on_prefilled) if fleet.prefill else None
        gauges = Gauges(self.decode, fleet.limits, timeline, scrape_s)
        self._gauges = [gauges]
        desk_gauges = gauges
        if self.prefill:
            desk_gauges = Gauges(self.prefill.engines, self.prefill.limits, timeline, scrape_s)
            self._gauges.append(desk_gauges)
        self.routers = [
            Router(
                policy,
                gauges,
                timeline,
                self._send,
                Desk(self.prefill, self.decode, desk_gauges, policy) if self.prefill else None,
                self._warm,
            )
            for policy in policies
        ]
        self._first_tokens = first_tokens or any(one.on_first_token for one in self.routers)

    def dispatch(self) -> None:
        """Ask the policies about turns that wait."""
        for router in self.routers:
            if router.waiting:
                router.dispatch()

    def begin(self) -> None:
        """Let the replicas begin their next steps."""
        self.decode.begin()
        if self.prefill is not None:
            self.prefill.engines.begin()

    def pass_time(self, until_s: float) -> None:
        """Time goes on; scrapes come due."""
        for gauges in self._gauges:
            gauges.pass_time(until_s)

    def drop(self, call: Call) -> None:
        """A client gives up a call, wherever it is."""
        if self._placed.pop(call.view.id, None) is not None:
            self._forget(call)
            self.decode.abort(call.replica, call.view.id)
        self.routers[call.run.router].fail(call)

    def calls(self) -> list[Call]:
        """All that wait or are being served."""
        waiting = [call for router in self.routers for call in router.waiting.values()]
        return [*waiting, *self._placed.values()]

    def stop(self, failure: Failure) -> None:
        """A replica dies."""
        if failure.role == "prefill":
            self._stop_prefill(failure.replica)
        else:
            self._stop_decode(failure.replica)
        self._show(failure, ready=False)

    def start(self, failure: Failure) -> None:
        """It is there again."""
        if failure.role == "prefill" and self.prefill is not None:
            self.prefill.engines.start(failure.replica)
        else:
            self.decode.start(failure.replica)
        self._show(failure, ready=True)

    def _send(self, call: Call, prefill: int | None) -> None:
        self._placed[call.view.id] = call
        if self._first_tokens:
            self._awaited[call.view.id] = call
        if prefill is None or self.prefill is None:
            self.decode.admit(call.replica, call.request())
        else:
            self.prefill.send(call, prefill)

    def _warm(self, router: Router, one: WarmUp) -> None:
        """Where prefill is apart the KV would have to be fetched too: not done there."""
        if self.prefill is not None or not self.decode.up[one.replica]:
            router.warmed(one, None)
            return
        self._warming[one.id] = (router, one)
        turn = one.turn
        asked = Request(id=one.id, runs=turn.runs, prompt_tokens=turn.prompt_tokens, output_tokens=1)
        self.decode.admit(one.replica, asked)

    def _on_prefilled(self, call: Call) -> None:
        self._leave_prefill(call)
        self.decode.admit(call.replica, call.request())

    def _on_decode(self, _index: int, outcome: Outcome) -> None:
        if self.prefill is not None:
            for one in outcome.admitted:
                self.prefill.fetched(one.id)
        if self._awaited:
            self._tell_first(outcome)
        for done in outcome.finished:
            if done.id in self._warming:
                router, warm_up = self._warming.pop(done.id)
                router.warmed(warm_up, done)
                continue
            call = self._placed.pop(done.id)
            self._timeline.changed = True
            self.routers[call.run.router].finish(call, done)
            self._told.finished(call, done)

    def _tell_first(self, outcome: Outcome) -> None:
        for request_id, _ in outcome.tokens:
            call = self._awaited.pop(request_id, None)
            if call is None:
                continue
            call.begun = True
            tell = self.routers[call.run.router].on_first_token
            if tell is not None:
                tell(request_id, call.replica, outcome.end_s)

    def _forget(self, call: Call) -> None:
        """A placed call is over without an answer."""
        self._awaited.pop(call.view.id, None)
        if self.prefill is not None and self.prefill.drop(call):
            self._leave_prefill(call)

    def _leave_prefill(self, call: Call) -> None:
        desk = self.routers[call.run.router].desk
        if desk is not None and call.prefill is not None:
            desk.done(call.view, call.prefill)

    def _stop_decode(self, index: int) -> None:
        lost = [call for call in self._placed.values() if call.replica == index]
        self.decode.stop(index)
        for router, warm_up in [one for one in self._warming.values() if one[1].replica == index]:
            del self._warming[warm_up.id]
            router.warmed(warm_up, None)
        for call in lost:
            del self._placed[call.view.id]
            self._forget(call)
            self.routers[call.run.router].fail(call)
            self._told.failed(call)

    def _stop_prefill(self, index: int) -> None:
        if self.prefill is None:
            return
        asked, kept = self.prefill.stop(index)
        for call in asked:
            self._leave_prefill(call)
        for call in kept:  # it waits for KV that will never come
            self.decode.abort(call.replica, call.view.id)
        for call in (*asked, *kept):
            self.decode.admit(call.replica, call.request())

    def _show(self, failure: Failure, *, ready: bool) -> None:
        for router in self.routers:
            views = router.views
            if failure.role == "prefill" and router.desk is not None:
                views = router.desk.views
            views[failure.replica].ready = ready
        self._timeline.changed = True
