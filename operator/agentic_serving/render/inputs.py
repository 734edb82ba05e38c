"""What `render()` reads: everything, as values."""

from dataclasses import dataclass

from agentic_serving.api.policy import KVTierPolicy
from agentic_serving.api.program import AgentProgram
from agentic_serving.api.stack import AgenticServingStack

__all__ = ["RenderInputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderInputs:
    """One stack and what it refers to, or is referred to by.

    Attributes:
        programs: every AgentProgram of the namespace one of whose agents names this stack, in any order.
        policy: the object that `spec.kvTierPolicyRef` names; None although it is set becomes a finding.
        scheduler_image: of the program scheduler, which is the operator's own; empty: the table's.
        served: (group, version, kind) of all that the API server serves; None assumes everything.
    """

    stack: AgenticServingStack
    programs: tuple[AgentProgram, ...] = ()
    policy: KVTierPolicy | None = None
    scheduler_image: str = ""
    served: frozenset[tuple[str, str, str]] | None = None

    def serves(self, group: str, version: str, kind: str) -> bool:
        """Whether objects of that kind can be written."""
        return self.served is None or (group, version, kind) in self.served
