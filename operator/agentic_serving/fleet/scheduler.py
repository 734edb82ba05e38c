"""Who runs in the next step: vLLM v1's scheduler over the block pool.

The order of `vllm/v1/core/sched/scheduler.py`, `schedule`: running requests first, in their order, each with all its
known tokens that are not computed or as many as the budget has; if blocks run out, the last (or least urgent) running
request is preempted and computed again later. If nobody was preempted, requests start from the queue, one after the
other, until the first that does not fit. Blocks become hits when they are scheduled, not when they are computed.
Left out: speculative tokens, encoder inputs, several cache groups, asynchronous scheduling.
"""

from bisect import bisect_left
from dataclasses import dataclass

from agentic_serving.capacity.runs import Runs, cut
from agentic_serving.fleet.plan import Plan
from agentic_serving.fleet.pool import BlockPool
from agentic_serving.fleet.queue import make_queue
from agentic_serving.fleet.sequence import Sequence, State
from agentic_serving.fleet.tiers import BlockLink, Tier
from agentic_serving.fleet.types import Admitted, Counters, Limits

__all__ = ["Scheduler"]


@dataclass(slots=True)
class _Fetch:
    """What tiers and a prefill replica can add to the local hits of one request."""

    parts: list[tuple[Tier, int, int]]  # (tier, first block, end)
    tokens: int  # that will be there then, local ones included


class Scheduler:
    """The queues and the pool of one replica."""

    def __init__(
        self, limits: Limits, tiers: tuple[Tier, ...], link: BlockLink | None, counters: Counters
    ) -> None:
        self.limits = limits
        self.tiers = tiers
        self.link = link
        self.counters = counters
        self.pool = BlockPool(limits.usable_blocks)
        self.running: list[Sequence] = []
        self.waiting = make_queue(limits.policy)
        self.fetching: list[Sequence] = []  # in the order in which their loads were asked for
        self._watermark_blocks = int(limits.watermark * limits.n_blocks)

    def schedule(self, now_s: float) -> Plan:
        plan = Plan(now_s, self.limits.max_batched_tokens)
        self._schedule_running(plan)
        while not plan.items and self.running:  # the first one preempted itself: vLLM's step would be empty
            self._schedule_running(plan)
        if not plan.items or not plan.preempted:
            self._schedule_waiting(plan)
        return plan

    def grow(self, sequence: Sequence, tokens: int) -> bool:
        """Blocks for `tokens` tokens in all, the full ones with identity; False: there are not enough."""
        if tokens <= sequence.settled:
            return True
        holding, size = sequence.holding, self.limits.block_size
        need = -(-tokens // size) - holding.hashed - holding.private
        if need > 0:
            if need > self.pool.free:
                return False
            self.pool.take(holding, need)
        self._commit(sequence, tokens)
        sequence.settled = holding.blocks * size
        if holding.hashed < sequence.hashable and self.limits.prefix_caching:
            sequence.settled = min(sequence.settled, (holding.hashed + 1) * size - 1)
        return True

    def fitting(self, items: list[tuple[Sequence, int]], most: int) -> int:
        """For how many passes with so many tokens of each of them there are blocks: 1 to `most`."""
        free, size = self.pool.free, self.limits.block_size
        if sum([count * most // size + 1 for _, count in items]) <= free:
            return most
        return 1 + bisect_left(range(2, most + 1), free + 1, key=lambda steps: self.growth(items, steps))

    def growth(self, items: list[tuple[Sequence, int]], steps: int) -> int:
        """Blocks that they need for so many passes."""
        size, needed = self.limits.block_size, 0
        for sequence, count in items:
            tokens = sequence.computed + steps * count
            if tokens > sequence.settled:
                needed += max(0, -(-tokens // size) - sequence.holding.blocks)
        return needed

    def remove(self, sequence: Sequence) -> None:
        """Take a request out, wherever it is, and give back what it holds."""
        if sequence.state is State.WAITING:
            self.waiting.remove(sequence)
        elif sequence.state is State.FETCHING:
            self.fetching.remove(sequence)
        else:
            self.running.remove(sequence)
        sequence.state = State.ENDED
        self.pool.release(sequence.holding)

    def wake_s(self, now_s: float) -> float | None:
        """When the next load arrives that has not arrived yet."""
        return min((s.ready_s for s in self.fetching if s.ready_s > now_s), default=None)

    def _schedule_running(self, plan: Plan) -> None:
        items, running = plan.items, self.running
        while len(items) < len(running) and plan.budget > 0:
            sequence = running[len(items)]
            count = sequence.tokens - sequence.computed
            if count > 1:
                count = self._chunk(sequence, plan)
            tokens = sequence.computed + count
            if tokens > sequence.settled and not self._grow_or_preempt(sequence, tokens, plan):
                return
            items.append((sequence, count))
            plan.budget -= count

    def _chunk(self, sequence: Sequence, plan: Plan) -> int:
        count = sequence.tokens - sequence.computed
        threshold = self.limits.long_prefill_threshold
        if 0 < threshold < count:
            count = threshold
        return min(count, plan.budget)

    def _grow_or_preempt(self, sequence: Sequence, tokens: int, plan: Plan) -> bool:
        while not self.grow(sequence, tokens):
            victim = self.running[-1]
            if self.limits.policy == "priority":
                victim = max(self.running, key=lambda item: item.urgency)
            self.running.remove(victim)
            self._preempt(victim, plan)
            if victim is sequence:
                return False
        return True

    def _preempt(self, victim: Sequence, plan: Plan) -> None:
        plan.drop(victim)
        plan.preempted.append(victim)
        self.pool.release(victim.holding)
        victim.state = State.WAITING
        victim.computed = victim.fetched = victim.settled = 0
        victim.preemptions += 1
        self.counters.preemptions += 1
        self.waiting.push_front(victim)

    def _schedule_waiting(self, plan: Plan) -> None:
        while plan.budget > 0 and len(self.running) < self.limits.max_seqs:
            sequence = self._next(plan.now_s)
            if sequence is None:
                return
            if sequence.state is State.FETCHING:
                started = self._start_fetched(sequence, plan)
            else:
                started = self._start(sequence, plan)
            if not started and (self.running or not self._make_room(sequence, plan)):
                return

    def _next(self, now_s: float) -> Sequence | None:
        """First come first served: what has been loaded, then the queue; by priority: the more urgent of both."""
        head = self.waiting.head()
        ready = [sequence for sequence in self.fetching if sequence.ready_s <= now_s]
        if not ready:
            return head
        if self.limits.policy == "fcfs" or head is None:
            return ready[0]
        return min((*ready, head), key=lambda item: item.urgency)

    def _make_room(self, wanted: Sequence, plan: Plan) -> bool:
        """Nobody runs, yet loaded requests hold the blocks that `wanted` needs: the last one starts anew."""
        for victim in reversed(self.fetching):
            if victim is not wanted and victim.ready_s <= plan.now_s:
                self.fetching.remove(victim)
                self._preempt(victim, plan)
                return True
        return False

    def _start(self, sequence: Sequence, plan: Plan) -> bool:
        runs, size = sequence.request.runs, self.limits.block_size
        most = (sequence.tokens - 1) // size if self.limits.prefix_caching else 0
        hits, idle = self.pool.match(runs, most)
        fetch = self._lookup(sequence, hits, plan.now_s)
        if fetch is not None:
            return self._fetch(sequence, fetch, (hits, idle), plan)
        sequence.computed = hits * size
        count = self._chunk(sequence, plan)
        if not self._fits(sequence, sequence.computed + count, hits, idle):
            sequence.computed = 0
            return False
        self.waiting.pop()
        self._note(sequence, hits, None)
        self.pool.acquire(sequence.holding, cut(runs, 0, hits))
        self._run(sequence, count, plan)
        return True

    def _start_fetched(self, sequence: Sequence, plan: Plan) -> bool:
        if not sequence.computed:
            sequence.computed = min(sequence.fetched, sequence.tokens - 1)
            self._commit(sequence, sequence.fetched)
        count = self._chunk(sequence, plan)
        if not self._fits(sequence, sequence.computed + count, sequence.holding.blocks, 0):
            return False
        self.fetching.remove(sequence)
        self._run(sequence, count, plan)
        return True

    def _run(self, sequence: Sequence, count: int, plan: Plan) -> None:
        self.grow(sequence, sequence.computed + count)
        sequence.state = State.RUNNING
        self.running.append(sequence)
        if sequence.scheduled_s is None:
            sequence.scheduled_s = plan.now_s
            plan.admitted.append(Admitted(sequence.id, plan.now_s, sequence.cached))
        plan.add(sequence, count)

    def _fits(self, sequence: Sequence, tokens: int, held: int, idle: int, reserved: int = 0) -> bool:
        """Whether a request can start: `held` blocks it has or hits, of which `idle` leave the free ones."""
        if self.limits.reserve_full_prompt:
            tokens = max(tokens, sequence.tokens)
        headroom = self._watermark_blocks if self.running else 0
        need = max(0, self.limits.blocks_for(tokens) - held)
        return need + idle + headroom + reserved <= self.pool.free

    def _lookup(self, sequence: Sequence, hits: int, now_s: float) -> _Fetch | None:
        size = self.limits.block_size
        chain = cut(sequence.request.runs, 0, sequence.tokens // size)
        have, parts = hits, []
        for tier in self.tiers:
            count = tier.match(chain, have, now_s)
            if count > 0:
                parts.append((tier, have, have + count))
                have += count
        remote = 0 if sequence.preemptions else sequence.request.remote_tokens
        if remote > have * size:
            return _Fetch(parts, remote)
        return _Fetch(parts, have * size) if parts else None

    def _fetch(self, sequence: Sequence, fetch: _Fetch, local: tuple[int, int], plan: Plan) -> bool:
        """Hold blocks for a load and ask for it. It must leave the prefills in flight what they will need."""
        hits, idle = local
        reserved = sum(
            max(0, self.limits.blocks_for(s.tokens) - s.holding.blocks)
            for s in (*self.running, *self.fetching)
            if not s.emitted
        )
        if not self._fits(sequence, fetch.tokens, hits, idle, reserved):
            return False
        self.waiting.pop()
        self._note(sequence, hits, fetch)
        runs = sequence.request.runs
        self.pool.acquire(sequence.holding, cut(runs, 0, hits))
        self.pool.take(sequence.holding, self.limits.blocks_for(fetch.tokens) - hits)
        sequence.ready_s = max((plan.now_s, *self._loads(runs, fetch, hits, plan.now_s)))
        sequence.fetched = fetch.tokens
        sequence.state = State.FETCHING
        self.fetching.append(sequence)
        return True

    def _loads(self, runs: Runs, fetch: _Fetch, hits: int, now_s: float) -> list[float]:
        """Ask for every part; when each arrives."""
        have = fetch.parts[-1][2] if fetch.parts else hits
        times = [tier.load(runs, start, stop, now_s) for tier, start, stop in fetch.parts]
        missing = self.limits.blocks_for(fetch.tokens) - have
        if missing > 0 and self.link is not None:
            times.append(self.link.transfer(missing, now_s))
        return times

    def _note(self, sequence: Sequence, hits: int, fetch: _Fetch | None) -> None:
        """Count the hits of a request that starts for the first time."""
        if sequence.preemptions or sequence.cached:
            return
        size, counters = self.limits.block_size, self.counters
        local = hits * size
        sequence.cached = {"local": local}
        for tier, start, stop in fetch.parts if fetch else ():
            sequence.cached[tier.source] = sequence.cached.get(tier.source, 0) + (stop - start) * size
        if fetch and fetch.tokens > sum(sequence.cached.values()):
            sequence.cached["p2p"] = fetch.tokens - sum(sequence.cached.values())
        counters.prompt_tokens += sequence.request.prompt_tokens
        counters.prefix_queries += sequence.request.prompt_tokens
        counters.prefix_hits += local
        if self.tiers or sequence.request.remote_tokens:
            counters.external_queries += sequence.request.prompt_tokens - local
            counters.external_hits += sum(sequence.cached.values()) - local
        for source, tokens in sequence.cached.items():
            counters.cached[source] += tokens

    def _commit(self, sequence: Sequence, tokens: int) -> None:
        """Blocks that `tokens` tokens fill can be hit from now on."""
        holding = sequence.holding
        full = min(tokens // self.limits.block_size, sequence.hashable)
        if full <= holding.hashed or not self.limits.prefix_caching:
            return
        runs, parent = sequence.request.runs, None
        if holding.hashed and self.pool.journal is not None:
            parent = cut(runs, holding.hashed - 1, holding.hashed)[0][0]
        self.pool.commit(holding, cut(runs, holding.hashed, full), parent)
