"""Stacks, routers and programs in virtual time: programs' turns arrive, are answered, and bring others about.

Routers place turns as their policies say (`router`); replicas batch, prefill in chunks and cache as the engine model does
(`fleet.replica`). Not modelled: the network, requests that are refused, and what a client does with a wrong answer.
"""

from collections.abc import Callable
from functools import partial
from math import inf

from agentic_serving.errors import Bug
from agentic_serving.fleet.types import Finished
from agentic_serving.simulation.accounts import Accounts
from agentic_serving.simulation.records import Result, TurnRecord
from agentic_serving.simulation.runs import Call, Run
from agentic_serving.simulation.scripts import Script
from agentic_serving.simulation.setup import Seat, Setup
from agentic_serving.simulation.stack import Stack, Told
from agentic_serving.simulation.timeline import Timeline
from agentic_serving.simulation.views import Policy
from agentic_serving.simulation.workloads import Workload

__all__ = ["MakeSeated", "simulate"]

#: Makes the policy of one router. Policies that it makes may know of each other.
MakeSeated = Callable[[Seat], Policy]

#: `max_retries` of the OpenAI and Anthropic SDKs.
_RETRIES = 2


def simulate(workload: Workload, setup: Setup, policy: Policy | MakeSeated) -> Result:
    """Run a workload to its end, or to the horizon.

    Args:
        policy: a fresh object; a maker of them where there are several routers or stacks.

    Raises:
        InvalidInput: the workload was made for other replicas or gaps.
        Bug: a policy named no replica, or holds turns although nothing will ever happen.
    """
    workload.check(setup)
    seats = setup.seats()
    if callable(policy):
        policies = {(seat.stack, seat.router): policy(seat) for seat in seats}
    elif len(seats) > 1:
        raise Bug("several routers need a policy each: pass what makes one")
    else:
        policies = {("", 0): policy}
    world = _World(workload, setup, policies)
    world.run()
    return world.result()


class _World:
    """All that is true at one moment, most of which no policy sees."""

    def __init__(self, workload: Workload, setup: Setup, policies: dict[tuple[str, int], Policy]) -> None:
        self._workload = workload
        self._setup = setup
        self._timeline = Timeline()
        self._arrivals = setup.arrivals(workload.scripts)
        self._upcoming = next(self._arrivals, None)
        self._turns: list[TurnRecord] = []
        self._accounts = {name: Accounts(fleet, self._turns) for name, fleet in setup.fleets.items()}
        self._stacks = {
            name: Stack(
                fleet,
                [policies[name, number] for number in range(setup.routers)],
                self._timeline,
                Told(self._finish, self._retry),
                scrape_s=setup.scrape_s,
                first_tokens=setup.client_timeout_s < inf,
            )
            for name, fleet in setup.fleets.items()
        }
        self._runs: dict[str, Run] = {}
        self._hints = workload.hints(setup.hints, setup.seed) if setup.hints else None
        self._open = 0  # runs that go on, and those that are planned
        self._failed = 0

    def run(self) -> None:
        timeline, horizon_s = self._timeline, self._setup.horizon_s
        self._plan_arrivals()
        self._plan_failures()
        # What clients and replicas would still do when all is over is not waited for.
        eventful = bool(self._setup.failures) or self._setup.client_timeout_s < inf
        while (at_s := timeline.next_s()) is not None and (self._open or not eventful):
            if at_s > horizon_s:
                timeline.now_s = horizon_s
                return
            self._moment(at_s)
        for stack in self._stacks.values():
            for router in stack.routers:
                if router.waiting:
                    raise Bug(f"{type(router.policy).__name__} holds {len(router.waiting)} turns for ever")

    def _moment(self, at_s: float) -> None:
        timeline, stacks = self._timeline, self._stacks.values()
        if self._setup.scrape_s:
            for stack in stacks:
                stack.pass_time(at_s)
        timeline.run_moment(at_s)
        if timeline.changed:
            for stack in stacks:
                stack.dispatch()
            timeline.changed = False
        for stack in stacks:
            stack.begin()

    def _plan_failures(self) -> None:
        for failure in self._setup.failures:
            stack = self._stacks[failure.stack]
            self._timeline.push(failure.at_s, partial(stack.stop, failure))
            self._timeline.push(failure.at_s + failure.down_s, partial(stack.start, failure))

    def result(self) -> Result:
        now_s, warm_s = self._timeline.now_s, self._setup.warmup_s
        tasks = [task for run in self._runs.values() for task in run.tasks(now_s)]
        routers = [router for stack in self._stacks.values() for router in stack.routers]
        held = [now_s - call.view.arrived_s for one in routers for call in one.waiting.values()]
        return Result(
            turns=tuple(turn for turn in self._turns if turn.arrived_s >= warm_s),
            tasks=tuple(task for task in tasks if task.arrived_s >= warm_s),
            runs=tuple(run.timed(now_s) for run in self._runs.values() if run.started_s >= warm_s),
            held_s=max([*(one.held_s for one in routers), *held]),
            end_s=now_s,
            started=len(self._runs),
            failed=self._failed,
            misplaced=sum(one.misplaced for one in routers),
            given_up=sum(run.given_up for run in self._runs.values()),
        )

    # Programs and their turns

    def _plan_arrivals(self) -> None:
        """The arrivals that have a time; the first without one waits for an end."""
        while self._upcoming is not None:
            at_s, one, lap = self._upcoming
            if at_s is None:
                return
            self._plan(at_s, one, lap)

    def _plan(self, at_s: float, one: Script, lap: int) -> None:
        self._open += 1
        self._timeline.push(at_s, partial(self._start, one, lap))
        self._upcoming = next(self._arrivals, None)

    def _start(self, one: Script, lap: int) -> None:
        run = self._workload.start(one, lap, self._timeline.now_s)
        run.router = len(self._runs) % self._setup.routers
        run.hints = self._hints[one.id] if self._hints is not None else None
        self._runs[run.name] = run
        for at in one.roots:
            self._arrive(run, at)

    def _arrive(self, run: Run, at: int) -> None:
        if not run.given_up:
            self._ask(run.arrive(at, self._timeline.now_s))

    def _ask(self, call: Call) -> None:
        self._stacks[call.work.stack].routers[call.run.router].arrive(call)
        if self._setup.client_timeout_s < inf:
            self._timeline.push(
                self._timeline.now_s + self._setup.client_timeout_s, partial(self._lose_patience, call)
            )

    def _finish(self, call: Call, done: Finished) -> None:
        call.over = True
        self._accounts[call.work.stack].add(call, done)
        for at_s, at in call.run.end(call.at, self._timeline.now_s):
            self._timeline.push(at_s, partial(self._arrive, call.run, at))
        if call.run.over:
            self._end(call.run)

    def _end(self, run: Run) -> None:
        self._open -= 1
        if self._setup.announce_ends:
            for stack in self._stacks.values():
                stack.routers[run.router].policy.on_end(run.name, self._timeline.now_s)
        if self._upcoming is not None:  # closed loop: the next takes its place
            _, one, lap = self._upcoming
            self._plan(self._timeline.now_s, one, lap)

    # Calls without an answer

    def _retry(self, call: Call) -> None:
        call.over = True
        self._failed += 1
        self._timeline.push(self._timeline.now_s + self._setup.retry_s, partial(self._again, call))

    def _again(self, call: Call) -> None:
        if not call.run.given_up:
            self._ask(call.again(self._timeline.now_s))

    def _lose_patience(self, call: Call) -> None:
        """A client has waited long enough, unless it has an answer or the call has failed."""
        if call.over or call.begun:
            return
        self._stacks[call.work.stack].drop(call)
        self._retry(call)
        if call.view.retry >= _RETRIES:
            self._give_up(call.run)

    def _give_up(self, run: Run) -> None:
        run.given_up = True
        for stack in self._stacks.values():
            for call in stack.calls():
                if call.run is run:
                    call.over = True
                    self._failed += 1
                    stack.drop(call)
        self._end(run)
