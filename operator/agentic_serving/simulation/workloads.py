"""Programs made ready for one kind of replica: their scripts and contention-free paths, computed once."""

from collections.abc import Sequence

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.path import Alone, alone
from agentic_serving.simulation.runs import Run
from agentic_serving.simulation.scripts import Gaps, Script, script
from agentic_serving.simulation.setup import Fleet
from agentic_serving.workload import Program

__all__ = ["Workload"]

#: Between the block ids of one scope and those of the next. Not the workload's own highest id: that would tell policies,
#: which see block ids, something of what is to come.
_STRIDE = 1 << 40


class Workload:
    """For any number of simulations on fleets of these replicas, with these gaps.

    Raises:
        InvalidInput: a program cannot be run on these replicas, or two have one id.
    """

    def __init__(self, programs: Sequence[Program], fleet: Fleet, gaps: Gaps) -> None:
        self.gaps = gaps
        self.limits, self.profile = fleet.limits, fleet.profile
        self.scripts: tuple[Script, ...] = tuple(script(one, fleet.limits, gaps) for one in programs)
        self._alone = {one.id: alone(one, fleet.limits, fleet.profile) for one in self.scripts}
        if len(self._alone) < len(self.scripts):
            raise InvalidInput("programs", "two have the same id")
        if any(one.max_block >= _STRIDE for one in self.scripts):
            raise InvalidInput("programs", f"have block ids of {_STRIDE} or more")
        self._scopes = {name: i for i, name in enumerate(dict.fromkeys(one.scope for one in self.scripts))}

    def start(self, one: Script, lap: int, now_s: float) -> Run:
        """A new instance. Block ids mean the same within one scope and lap."""
        place = lap * len(self._scopes) + self._scopes[one.scope]
        name = f"{one.id}#{lap}" if lap else one.id
        return Run(name, one, self.alone(one), place * _STRIDE, now_s)

    def alone(self, one: Script) -> Alone:
        """The script's contention-free path."""
        return self._alone[one.id]

    def live_for(self, demand: float, fleet: Fleet) -> int:
        """How many programs at a time want `demand` times what the fleet's caches hold.

        A program wants, on average over its turns, what prompt and answer of one turn hold.
        """
        wants = [
            sum(work.prompt_tokens + work.output_tokens for work in one.works) / len(one.works)
            for one in self.scripts
        ]
        return max(1, round(demand * fleet.tokens * len(wants) / sum(wants)))
