"""What every finished turn is charged: who computed its prompt's blocks before, and what was computed again."""

from agentic_serving.capacity.runs import blocks
from agentic_serving.fleet.pool import BlockPool
from agentic_serving.fleet.types import Finished
from agentic_serving.simulation.fleets import Fleet
from agentic_serving.simulation.records import TurnRecord
from agentic_serving.simulation.runs import Call

__all__ = ["Accounts"]

#: More blocks than any workload has.
_ENDLESS = 1 << 60


class Accounts:
    """Every block that was ever computed on a stack, and the turns that computed them.

    A turn is charged when it ends: of two turns that compute the same block at the same time, the one that ends later
    has computed it again.
    """

    def __init__(self, fleet: Fleet, turns: list[TurnRecord]) -> None:
        self._turns = turns
        self._size = fleet.limits.block_size
        self._block_bytes = fleet.prefill.kv_token_bytes * self._size if fleet.prefill else 0
        self._known = BlockPool(_ENDLESS)

    def add(self, call: Call, done: Finished) -> None:
        usage, view, first = done.usage, call.view, call.prefilled
        known, _ = self._known.match(view.runs, blocks(view.runs))
        runs = call.runs
        self._known.insert(runs)
        repeated = known * self._size
        cached = usage.cached_tokens
        if first is not None:
            cached = max(0, cached - first.usage.computed_tokens)
        transferred = usage.cached.get("p2p", 0)
        self._turns.append(
            TurnRecord(
                id=call.id,
                program=view.program,
                session=view.session,
                index=view.index,
                replica=call.replica,
                arrived_s=call.first_s,
                placed_s=call.placed_s,
                scheduled_s=first.scheduled_s if first else done.scheduled_s,
                first_token_s=done.first_token_s,
                finished_s=done.finished_s,
                prompt_tokens=usage.prompt_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=cached,
                repeated_tokens=repeated,
                recomputed_tokens=max(0, repeated - cached),
                preemptions=done.preemptions + (first.preemptions if first else 0),
                runs=runs,
                agent=view.agent,
                stack=call.work.stack,
                tries=view.retry + 1,
                retried_s=view.arrived_s - call.first_s,
                prefill=call.prefill if first else None,
                prefilled_s=first.finished_s if first else None,
                transferred_tokens=transferred,
                transferred_bytes=-(-transferred // self._size) * self._block_bytes,
                loaded_tokens=sum(usage.cached.values()) - usage.cached.get("local", 0) - transferred,
            )
        )
