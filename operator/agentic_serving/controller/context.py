"""What a reconcile works with: the process-wide parts, and the state of one pass over one stack."""

from collections.abc import Callable
from dataclasses import dataclass, field

from agentic_serving.api.conditions import StackCondition
from agentic_serving.api.findings import Finding
from agentic_serving.api.policy import KVTierPolicy
from agentic_serving.api.program import AgentProgram
from agentic_serving.api.stack import AgenticServingStack
from agentic_serving.clock import Clock
from agentic_serving.cluster.port import Cluster, Kind, Manifest
from agentic_serving.cluster.store import ObjectStore
from agentic_serving.controller.board import Board
from agentic_serving.controller.keys import Key
from agentic_serving.controller.observe import Observation
from agentic_serving.controller.queue import WorkQueue
from agentic_serving.controller.references import References
from agentic_serving.controller.schedulers import Reports
from agentic_serving.controller.status import Draft, StatusWriter
from agentic_serving.render.inputs import RenderInputs
from agentic_serving.render.plan import Plan

__all__ = ["Parts", "Problem", "Served", "StackPass"]


@dataclass(slots=True)
class Served:
    """The kinds that the API server serves, as last discovered."""

    kinds: frozenset[tuple[str, str, str]] = frozenset()

    def has(self, kind: Kind) -> bool:
        return kind.gvk in self.kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What all reconciles share.

    Attributes:
        render: `render.plan.render`; an argument, because the controller's tests use smaller plans.
        fresh: whether our leadership is recent enough to write (`LeaseElector.fresh`).
        reports: what the stacks' program schedulers said last.
        scheduler_image: as `RenderInputs.scheduler_image`.
        pod_report_after_s: a Deployment this long without all its pods has their states quoted.
    """

    cluster: Cluster
    store: ObjectStore
    references: References
    queue: WorkQueue
    board: Board
    reports: Reports
    served: Served
    status: StatusWriter
    clock: Clock
    render: Callable[[RenderInputs], Plan]
    fresh: Callable[[], bool]
    scheduler_image: str
    pod_report_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An object that could not be brought to its desired state."""

    kind: Kind
    name: str
    error: Exception

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.name}: {self.error}"


@dataclass(slots=True, kw_only=True)
class StackPass:
    """One pass over one stack: the steps read and fill it from top to bottom."""

    key: Key
    failures: int  # passes in a row that failed before this one
    raw: Manifest  # the stack as it is in the store
    draft: Draft = field(default_factory=lambda: Draft(types=tuple(map(str, StackCondition))))
    # accept
    stack: AgenticServingStack | None = None
    policy: KVTierPolicy | None = None
    programs: tuple[AgentProgram, ...] = ()
    findings: tuple[Finding, ...] = ()
    # plan
    plan: Plan | None = None
    # apply, prune
    problems: list[Problem] = field(default_factory=list)
    is_newest: bool = False  # `raw` was compared with the API server in this pass
    superseded: bool = (
        False  # the spec is newer than `raw`, or another leads: this pass has nothing to report
    )
    # observe
    observation: Observation | None = None

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def namespace(self) -> str:
        return self.key.namespace
