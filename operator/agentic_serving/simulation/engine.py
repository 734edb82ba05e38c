"""A fleet, a router and programs in virtual time: events in a heap, replicas that skip to their next change.

One router places every turn, as the policy says; replicas batch, prefill in chunks and cache as the engine model does
(`fleet.replica`). Not modelled: the network, delay of what the router learns, aborted and retried calls, failures,
prefill and decode apart.
"""

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count

from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.fleet.replica import MANY_STEPS
from agentic_serving.fleet.types import Finished
from agentic_serving.simulation.accounts import Accounts
from agentic_serving.simulation.records import Result
from agentic_serving.simulation.runs import Call, Run
from agentic_serving.simulation.scripts import Script
from agentic_serving.simulation.setup import Setup
from agentic_serving.simulation.views import Ended, Policy, ReplicaView
from agentic_serving.simulation.workloads import Workload

__all__ = ["simulate"]


def simulate(workload: Workload, setup: Setup, policy: Policy) -> Result:
    """Run a workload to its end, or to the horizon.

    Raises:
        InvalidInput: the workload was made for other replicas or gaps.
        Bug: the policy named no replica, or holds turns although nothing will ever happen.
    """
    fleet = setup.fleet
    if (workload.gaps, workload.limits, workload.profile) != (setup.gaps, fleet.limits, fleet.profile):
        raise InvalidInput("workload", "was made for other gaps, limits or another profile")
    world = _World(workload, setup, policy)
    world.run()
    return world.result()


class _Events:
    """What will happen, by time; at one moment in the order in which it was said."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._rank = count()

    def push(self, at_s: float, action: Callable[[], None]) -> None:
        heappush(self._heap, (at_s, next(self._rank), action))

    def next_s(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Callable[[], None]:
        return heappop(self._heap)[2]


class _World:
    """All that is true at `_now_s`, most of which no policy sees."""

    def __init__(self, workload: Workload, setup: Setup, policy: Policy) -> None:
        self._workload = workload
        self._setup = setup
        self._policy = policy
        self._events = _Events()
        self._now_s = 0.0
        self._arrivals = setup.arrivals(workload.scripts)
        self._upcoming = next(self._arrivals, None)
        self._replicas = setup.fleet.replicas()
        self._views = [self._view(i) for i in range(setup.fleet.n_replicas)]
        self._expected_s: list[float | None] = [None] * len(
            self._replicas
        )  # other events of a replica are void
        self._idle: set[int] = set()  # replicas that may begin a step now
        self._waiting: dict[str, Call] = {}
        self._placed: dict[str, Call] = {}
        self._runs: dict[str, Run] = {}
        self._accounts = Accounts(setup.fleet.limits.block_size)
        self._held_s = 0.0
        self._changed = False  # something that the policy may want to act on
        self._wake_s: float | None = None

    def run(self) -> None:
        self._plan_arrivals()
        while (at_s := self._events.next_s()) is not None:
            if at_s > self._setup.horizon_s:
                self._now_s = self._setup.horizon_s
                return
            self._now_s = at_s
            while self._events.next_s() == at_s:
                self._events.pop()()
            if self._changed and self._waiting:
                self._dispatch()
            self._changed = False
            for index in sorted(self._idle):
                self._begin(index)
            self._idle.clear()
        if self._waiting:
            raise Bug(f"{type(self._policy).__name__} holds {len(self._waiting)} turns for ever")

    def result(self) -> Result:
        now_s, warm_s = self._now_s, self._setup.warmup_s
        tasks = [task for run in self._runs.values() for task in run.tasks(now_s)]
        held = [now_s - call.view.arrived_s for call in self._waiting.values()]
        return Result(
            turns=tuple(turn for turn in self._accounts.turns if turn.arrived_s >= warm_s),
            tasks=tuple(task for task in tasks if task.arrived_s >= warm_s),
            runs=tuple(run.timed(now_s) for run in self._runs.values() if run.started_s >= warm_s),
            held_s=max([self._held_s, *held]),
            end_s=now_s,
            started=len(self._runs),
        )

    # Programs and their turns

    def _plan_arrivals(self) -> None:
        """The arrivals that have a time; the first without one waits for an end."""
        while self._upcoming is not None:
            at_s, one, lap = self._upcoming
            if at_s is None:
                return
            self._events.push(at_s, partial(self._start, one, lap))
            self._upcoming = next(self._arrivals, None)

    def _start(self, one: Script, lap: int) -> None:
        run = self._workload.start(one, lap, self._now_s)
        self._runs[run.name] = run
        for at in one.roots:
            self._arrive(run, at)

    def _arrive(self, run: Run, at: int) -> None:
        call = run.arrive(at, self._now_s)
        self._waiting[call.view.id] = call
        self._changed = True

    def _finish(self, done: Finished) -> None:
        call = self._placed.pop(done.id)
        view = self._views[call.replica]
        view.turns -= 1
        view.prompt_tokens -= call.view.prompt_tokens
        self._accounts.add(call, done)
        self._changed = True
        self._policy.on_finish(
            Ended(
                turn=call.view,
                replica=call.replica,
                usage=done.usage,
                placed_s=call.placed_s,
                first_token_s=done.first_token_s,
                finished_s=done.finished_s,
            )
        )
        for at_s, at in call.run.end(call.at, self._now_s):
            self._events.push(at_s, partial(self._arrive, call.run, at))
        if call.run.over:
            self._end(call.run)

    def _end(self, run: Run) -> None:
        if self._setup.announce_ends:
            self._policy.on_end(run.name, self._now_s)
        if self._upcoming is not None:  # closed loop: the next takes its place
            _, one, lap = self._upcoming
            self._events.push(self._now_s, partial(self._start, one, lap))
            self._upcoming = next(self._arrivals, None)

    # The router

    def _dispatch(self) -> None:
        policy, now_s = self._policy, self._now_s
        for view in self._views:
            view.renew()
        if policy.ready(self._views, now_s):
            for turn in policy.order([call.view for call in self._waiting.values()], now_s):
                index = policy.place(turn, self._views, now_s)
                if index is None:
                    continue
                self._place(turn.id, index)
                if not policy.ready(self._views, now_s):
                    break
        wake_s = policy.wake_s(now_s) if self._waiting else None
        if wake_s is not None and wake_s > now_s and wake_s != self._wake_s:
            self._wake_s = wake_s
            self._events.push(wake_s, partial(self._wake, wake_s))

    def _wake(self, wake_s: float) -> None:
        if wake_s == self._wake_s:
            self._wake_s, self._changed = None, True

    def _place(self, turn_id: str, index: int) -> None:
        if not 0 <= index < len(self._replicas):
            raise Bug(f"there is no replica {index}")
        call = self._waiting.pop(turn_id)
        call.placed_s, call.replica = self._now_s, index
        self._held_s = max(self._held_s, self._now_s - call.view.arrived_s)
        self._placed[turn_id] = call
        replica, view = self._replicas[index], self._views[index]
        replica.admit(call.request(), self._now_s)
        view.turns += 1
        view.prompt_tokens += call.view.prompt_tokens
        view.renew()
        if replica.step is None:
            self._idle.add(index)
        else:  # a step that was skipping ends earlier now
            self._expect(index, replica.step.end_s)

    # Replicas

    def _view(self, index: int) -> ReplicaView:
        limits = self._setup.fleet.limits
        return ReplicaView(
            index=index,
            cache_tokens=limits.usable_tokens,
            block_size=limits.block_size,
            max_seqs=limits.max_seqs,
            read=lambda: self._replicas[index].stats(self._now_s),
        )

    def _begin(self, index: int) -> None:
        replica = self._replicas[index]
        step = replica.begin(self._now_s, max_steps=MANY_STEPS)
        self._expect(index, replica.wake_s if step is None else step.end_s)

    def _expect(self, index: int, at_s: float | None) -> None:
        if at_s != self._expected_s[index]:
            self._expected_s[index] = at_s
            if at_s is not None:
                self._events.push(at_s, partial(self._advance, index))

    def _advance(self, index: int) -> None:
        if self._expected_s[index] != self._now_s:
            return  # void: the step was cut
        self._expected_s[index] = None
        self._idle.add(index)
        replica = self._replicas[index]
        if replica.step is None:
            return  # KV that was being loaded has arrived
        for one in replica.end().finished:
            self._finish(one)
