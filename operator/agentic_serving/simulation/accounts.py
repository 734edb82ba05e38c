"""What every finished turn is charged: who computed its prompt's blocks before, and what was computed again."""

from agentic_serving.capacity.runs import blocks
from agentic_serving.fleet.pool import BlockPool
from agentic_serving.fleet.types import Finished
from agentic_serving.simulation.records import TurnRecord
from agentic_serving.simulation.runs import Call

__all__ = ["Accounts"]

#: More blocks than any workload has.
_ENDLESS = 1 << 60


class Accounts:
    """Every block that was ever computed, and the turns that computed them.

    A turn is charged when it ends: of two turns that compute the same block at the same time, the one that ends later
    has computed it again.
    """

    def __init__(self, block_size: int) -> None:
        self.turns: list[TurnRecord] = []
        self._size = block_size
        self._known = BlockPool(_ENDLESS)

    def add(self, call: Call, done: Finished) -> None:
        usage, view = done.usage, call.view
        known, _ = self._known.match(view.runs, blocks(view.runs))
        runs = call.runs
        self._known.insert(runs)
        repeated = known * self._size
        self.turns.append(
            TurnRecord(
                id=done.id,
                program=view.program,
                session=view.session,
                index=view.index,
                replica=call.replica,
                arrived_s=view.arrived_s,
                placed_s=call.placed_s,
                scheduled_s=done.scheduled_s,
                first_token_s=done.first_token_s,
                finished_s=done.finished_s,
                prompt_tokens=usage.prompt_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens,
                repeated_tokens=repeated,
                recomputed_tokens=max(0, repeated - usage.cached_tokens),
                preemptions=done.preemptions,
                runs=runs,
            )
        )
