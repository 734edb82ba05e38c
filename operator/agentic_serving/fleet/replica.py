"""One engine replica without a clock: the host says what time it is, and carries out what comes back.

Two hosts share it. An engine simulator in real time begins a step, waits until its end, ends it and publishes the
outcome. A simulation in virtual time does the same with `max_steps`, so that uniform decoding is one step; whatever
arrives in between cuts that step to the pass in progress. Both give the same results.
"""

from collections.abc import Iterable

from agentic_serving.capacity.runs import Runs, cut
from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.fleet.events import BlocksRemoved, CacheEvent
from agentic_serving.fleet.passes import Passes, one_pass
from agentic_serving.fleet.plan import Plan
from agentic_serving.fleet.pool import Holding
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.scheduler import Scheduler
from agentic_serving.fleet.sequence import Sequence, State
from agentic_serving.fleet.tiers import BlockLink, StoresOn, Tier
from agentic_serving.fleet.types import Counters, Finished, Limits, Outcome, Request, Stats, Step

__all__ = ["MANY_STEPS", "Replica"]

#: For `max_steps`: as many as stay uniform.
MANY_STEPS = 1 << 40


class Replica:
    """A replica's queues, blocks and time. `now_s` never goes back."""

    def __init__(
        self,
        limits: Limits,
        profile: StepProfile,
        *,
        tiers: Iterable[Tier] = (),
        link: BlockLink | None = None,
        record_events: bool = False,
    ) -> None:
        self.limits = limits
        self.profile = profile
        self.counters = Counters()
        self.busy_until_s = 0.0  # end of the last step that was ended
        self._record = record_events
        self._scheduler = Scheduler(limits, tuple(tiers), link, self.counters)
        self._victims = [tier for tier in self._scheduler.tiers if tier.stores_on == "evict"]
        self._pool = self._scheduler.pool
        if record_events or self._victims:
            self._pool.journal = []
        self._live: dict[str, Sequence] = {}
        self._held: dict[str, Holding] = {}
        self._pass: Passes | None = None
        self._preempted: list[str] = []
        self._rank = 0
        self._now_s = 0.0

    @property
    def step(self) -> Step | None:
        """The step in progress, as cut by what arrived since."""
        return self._pass.step if self._pass else None

    @property
    def wake_s(self) -> float | None:
        """When KV that is being loaded arrives; None: nothing is being loaded."""
        return self._scheduler.wake_s(self._now_s)

    def admit(self, request: Request, now_s: float) -> None:
        """Queue a request.

        Raises:
            InvalidInput: its id is live, it can never fit, or it has remote KV and the replica no link.
        """
        if request.id in self._live or request.id in self._held:
            raise InvalidInput("id", f"{request.id!r} is live already")
        tokens = request.prompt_tokens + request.output_tokens
        if tokens > self.limits.usable_tokens:
            raise InvalidInput(
                "prompt_tokens", f"{tokens} tokens in all, but the cache has {self.limits.usable_tokens}"
            )
        if request.remote_tokens and self._scheduler.link is None:
            raise InvalidInput("remote_tokens", "needs a replica with a link")
        self._interrupt(now_s)
        self._rank += 1
        sequence = Sequence(request, now_s, self._rank)
        self._live[request.id] = sequence
        self._scheduler.waiting.push(sequence)

    def abort(self, request_id: str, now_s: float) -> bool:
        """Drop a request; False: there is none of this name, or it has finished."""
        sequence = self._live.pop(request_id, None)
        if sequence is None:
            return False
        self._interrupt(now_s)
        if self._pass is not None:  # passes that have begun have blocks, which stay in the cache
            self._grow(self._pass.plan, self._pass.step.n_steps)
        self._scheduler.remove(sequence)
        return True

    def release(self, request_id: str, now_s: float) -> bool:
        """Free the KV that a finished `hold_kv` request keeps; False: there is none of this name."""
        holding = self._held.pop(request_id, None)
        if holding is None:
            return False
        self._interrupt(now_s)
        self._pool.release(holding)
        return True

    def reset(self, now_s: float) -> bool:
        """Drop the prefix cache; False, and nothing changes, while requests hold blocks."""
        self._now_s = max(self._now_s, now_s)
        return self._pool.reset()

    def begin(self, now_s: float, *, max_steps: int = 1) -> Step | None:
        """Schedule the next step; None: nothing can run before the next arrival, `release` or `wake_s`.

        Raises:
            Bug: a step is in progress, or time went back.
        """
        if self._pass is not None or now_s < self.busy_until_s:
            raise Bug("a step is in progress, or begins before the last one has ended")
        self._now_s = max(self._now_s, now_s)
        plan = self._scheduler.schedule(now_s)
        self._preempted.extend(sequence.id for sequence in plan.preempted)
        if not plan.items:
            return None
        current = one_pass(plan, self.profile)
        if max_steps > 1:
            current.extend(self._scheduler, self.wake_s, max_steps)
        self._pass = current
        return current.step

    def end(self) -> Outcome:
        """Apply the step in progress, as of its end.

        Raises:
            Bug: there is none.
        """
        if self._pass is None:
            raise Bug("no step is in progress")
        step, plan = self._pass.step, self._pass.plan
        self._pass = None
        self.busy_until_s = step.end_s
        self._now_s = max(self._now_s, step.end_s)
        if step.n_steps > 1:
            self._grow(plan, step.n_steps)
        tokens: list[tuple[str, int]] = []
        finished: list[Finished] = []
        for sequence, count in plan.items:
            if sequence.state is not State.RUNNING:
                continue  # aborted during the step
            emitted = self._apply(sequence, count * step.n_steps, step)
            if emitted:
                tokens.append((sequence.id, emitted))
            if sequence.emitted >= sequence.request.output_tokens:
                finished.append(self._finish(sequence, step.end_s))
        preempted, self._preempted = tuple(self._preempted), []
        admitted = tuple(plan.admitted)
        return Outcome(
            step.end_s, tuple(tokens), tuple(finished), preempted, admitted, self._take_events(step.end_s)
        )

    def advance(self, until_s: float) -> list[Finished]:
        """Run every step that ends by `until_s` and begin the one in progress then; who finished."""
        finished: list[Finished] = []
        while True:
            if self._pass is not None:
                if self._pass.step.end_s > until_s:
                    return finished
                finished.extend(self.end().finished)
            start_s = max(self._now_s, self.busy_until_s)
            if start_s >= until_s:
                return finished
            if self.begin(start_s, max_steps=MANY_STEPS) is None:
                wake_s = self.wake_s
                if wake_s is None or wake_s >= until_s:
                    return finished
                self._now_s = wake_s

    def stats(self, now_s: float | None = None) -> Stats:
        """Gauges as of a moment at or after the last call; None: as of the last call.

        Blocks that requests take while they decode for several passes count when those are over, or cut.
        """
        current, scheduler, free = self._pass, self._scheduler, self._pool.free
        if now_s is not None and current is not None and current.ends_s:
            begun = current.steps_until(now_s, current.step.n_steps)
            free -= scheduler.growth(current.plan.items, begun)
        return Stats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + len(scheduler.fetching),
            fetching=len(scheduler.fetching),
            free_blocks=free,
            usable_blocks=self._pool.capacity,
        )

    def cached_tokens(self, runs: Runs, prompt_tokens: int, now_s: float) -> int:
        """Of a prompt with these full blocks, what would not have to be computed here now: hits, and what tiers have."""
        size, scheduler = self.limits.block_size, self._scheduler
        most = (prompt_tokens - 1) // size if self.limits.prefix_caching else 0
        chain = cut(runs, 0, prompt_tokens // size)
        have, _ = self._pool.match(runs, most)
        for tier in scheduler.tiers:
            have += max(0, tier.match(chain, have, now_s))
        return min(have * size, prompt_tokens)

    def check(self) -> None:
        """Every live request is in one place, and every block is accounted for.

        Raises:
            Bug: an invariant does not hold.
        """
        scheduler = self._scheduler
        places = len(scheduler.running) + len(scheduler.waiting) + len(scheduler.fetching)
        if places != len(self._live):
            raise Bug(f"{places} requests are queued or run, {len(self._live)} are live")
        if len(scheduler.running) > self.limits.max_seqs:
            raise Bug("more requests run than may")
        for sequence in self._live.values():
            if sequence.computed >= sequence.tokens or sequence.emitted >= sequence.request.output_tokens:
                raise Bug(f"{sequence.id} has nothing left to compute, but is live")
            if sequence.state is State.WAITING and sequence.holding.blocks:
                raise Bug(f"{sequence.id} waits and holds blocks")
        self._pool.check([*(s.holding for s in self._live.values()), *self._held.values()])

    def _interrupt(self, now_s: float) -> None:
        """Something changes: a uniform step ends with the pass in progress."""
        self._now_s = max(self._now_s, now_s)
        current = self._pass
        if current is not None and current.step.n_steps > 1:
            current.cut(current.steps_until(now_s, current.step.n_steps))

    def _grow(self, plan: Plan, n_steps: int) -> None:
        """The blocks of so many passes, before anybody's end frees some."""
        for sequence, count in plan.items:
            tokens = sequence.computed + n_steps * count
            if sequence.state is State.RUNNING and not self._scheduler.grow(sequence, tokens):
                raise Bug("passes that are alike ran out of blocks")

    def _apply(self, sequence: Sequence, count: int, step: Step) -> int:
        """Advance one request by a step; the tokens of the answer that came out."""
        before = sequence.computed
        sequence.computed += count
        self.counters.computed_tokens += count
        if self._scheduler.tiers:
            self._store(sequence, before, "computed", step.end_s)
        emitted = step.n_steps if sequence.computed >= sequence.tokens else 0
        if emitted:
            sequence.emit(emitted, step.end_s)
            self.counters.output_tokens += emitted
        return emitted

    def _finish(self, sequence: Sequence, now_s: float) -> Finished:
        self._store(sequence, 0, "finish", now_s)
        del self._live[sequence.id]
        if sequence.request.hold_kv:
            self._held[sequence.id], sequence.holding = sequence.holding, Holding()
        self._scheduler.remove(sequence)
        self.counters.finished += 1
        return sequence.finish(now_s)

    def _store(self, sequence: Sequence, before: int, when: StoresOn, now_s: float) -> None:
        """Write the full blocks into the tiers that store at this moment, if there are more than at `before`."""
        size = self.limits.block_size
        for tier in self._scheduler.tiers:
            if tier.stores_on != when:
                continue
            limit = sequence.request.prompt_tokens if tier.prompt_only else sequence.computed
            full = min(sequence.computed, limit) // size
            if full > min(before, limit) // size:
                tier.store(cut(sequence.request.runs, 0, full), now_s)

    def _take_events(self, now_s: float) -> tuple[CacheEvent, ...]:
        journal = self._pool.journal
        if not journal:
            return ()
        self._pool.journal = []
        for event in journal:
            if isinstance(event, BlocksRemoved):
                for tier in self._victims:
                    tier.store(event.runs, now_s)
        return tuple(journal) if self._record else ()
