"""The simulations behind a plan: one choice with one seed, to be done in any process."""

from dataclasses import dataclass, replace

from agentic_serving.simulation.engine import simulate
from agentic_serving.simulation.equipment import Equipment
from agentic_serving.simulation.grid import MakePolicy, seated
from agentic_serving.simulation.metrics import summary
from agentic_serving.simulation.objective import Objective
from agentic_serving.simulation.planner import Choice, Sample
from agentic_serving.simulation.setup import Setup
from agentic_serving.simulation.workloads import Workload

__all__ = ["Attempt", "Job"]

#: What is simulated, and with which seed.
Job = tuple[Choice, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Simulates a choice of fleet; a value, so that other processes can take it along.

    Attributes:
        setup: of every simulation but for fleet and seed.
    """

    workload: Workload
    equipment: Equipment
    setup: Setup
    policy: MakePolicy
    objective: Objective

    def __call__(self, job: Job) -> Sample:
        choice, seed = job
        fleet = self.equipment.fleet(
            choice.replicas, prefill=choice.prefill, host_bytes=choice.shape.host_bytes
        )
        setup = replace(self.setup, fleet=fleet, seed=seed)
        result = simulate(self.workload, setup, seated(self.policy, setup, seed))
        found = summary(result)
        return Sample(
            seed=seed,
            values=tuple(self.objective.values(result)),
            recompute_share=found.recompute_share,
            held_s=found.held_s,
            unfinished_tasks=found.unfinished_tasks,
        )
