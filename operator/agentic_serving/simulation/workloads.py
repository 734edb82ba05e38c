"""Programs made ready for one kind of replica: their scripts and contention-free paths, computed once."""

from collections.abc import Sequence

from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation.fleets import Fleet, Stacks
from agentic_serving.simulation.hints import Hints, declared
from agentic_serving.simulation.path import Alone, alone
from agentic_serving.simulation.runs import Run
from agentic_serving.simulation.scripts import Gaps, Script, script
from agentic_serving.simulation.setup import Setup
from agentic_serving.simulation.views import TurnHints
from agentic_serving.workload import Program

__all__ = ["Workload"]

#: Between the block ids of one scope and those of the next. Not the workload's own highest id: that would tell policies,
#: which see block ids, something of what is to come.
_STRIDE = 1 << 40


class Workload:
    """For any number of simulations on fleets of these replicas, with these gaps.

    Args:
        fleet: what programs run on; of it, `limits` and `profile` count.
        stacks: further ones, and the agents that use them.

    Raises:
        InvalidInput: a program cannot be run on these replicas, or two have one id.
    """

    def __init__(
        self, programs: Sequence[Program], fleet: Fleet, gaps: Gaps, stacks: Stacks | None = None
    ) -> None:
        self.gaps = gaps
        self.limits, self.profile = fleet.limits, fleet.profile
        self._agents = dict(stacks.agents) if stacks else {}
        self._kinds = _kinds(fleet, stacks)
        self.scripts: tuple[Script, ...] = tuple(script(one, self._place, gaps) for one in programs)
        self._alone = {one.id: alone(one, self._kinds) for one in self.scripts}
        if len(self._alone) < len(self.scripts):
            raise InvalidInput("programs", "two have the same id")
        if any(one.max_block >= _STRIDE for one in self.scripts):
            raise InvalidInput("programs", f"have block ids of {_STRIDE} or more")
        self._scopes = {name: i for i, name in enumerate(dict.fromkeys(one.scope for one in self.scripts))}

    def check(self, setup: Setup) -> None:
        """Raises: InvalidInput: the setup has other replicas or gaps than this was made for."""
        theirs = (setup.gaps, dict(setup.stacks.agents), _kinds(setup.fleet, setup.stacks))
        if (self.gaps, self._agents, self._kinds) != theirs:
            raise InvalidInput("workload", "was made for other gaps, limits or another profile")

    def hints(self, hints: Hints, seed: int) -> dict[str, tuple[TurnHints, ...]]:
        """What the clients declare, by script."""
        return declared(self.scripts, self._alone, hints, seed)

    def start(self, one: Script, lap: int, now_s: float) -> Run:
        """A new instance. Block ids mean the same within one scope and lap."""
        place = lap * len(self._scopes) + self._scopes[one.scope]
        name = f"{one.id}#{lap}" if lap else one.id
        return Run(name, one, self.alone(one), place * _STRIDE, now_s)

    def _place(self, agent: str) -> tuple[str, Limits]:
        stack = self._agents.get(agent, "")
        return stack, self._kinds[stack][0]

    def alone(self, one: Script) -> Alone:
        """The script's contention-free path."""
        return self._alone[one.id]

    def live_for(self, demand: float, *fleets: Fleet) -> int:
        """How many programs at a time want `demand` times what the caches of all these stacks hold.

        What programs want is the average over the time that they live, with no contention: a session has a turn's
        prompt and answer from the turn's arrival to the next one's, gaps included. Programs that live longer, which
        are live more often, weigh more.
        """
        held_s, lives_s = 0.0, 0.0
        for one in self.scripts:
            path = self.alone(one)
            held_s += _held_token_s(one, path)
            lives_s += max(path.end_s)
        return max(1, round(demand * sum(fleet.tokens for fleet in fleets) * lives_s / held_s))


def _held_token_s(one: Script, path: Alone) -> float:
    """Tokens times seconds of all sessions."""
    until_s: dict[str, float] = {}
    total = 0.0
    for at in sorted(range(len(one.works)), key=lambda at: -path.ready_s[at]):
        work = one.works[at]
        end_s = until_s.get(work.session, path.end_s[at])
        total += (work.prompt_tokens + work.output_tokens) * (end_s - path.ready_s[at])
        until_s[work.session] = path.ready_s[at]
    return total


def _kinds(fleet: Fleet, stacks: Stacks | None) -> dict[str, tuple[Limits, StepProfile]]:
    fleets = {"": fleet, **(stacks.fleets if stacks else {})}
    return {name: (one.limits, one.profile) for name, one in fleets.items()}
