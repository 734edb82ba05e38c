"""Policies in a discrete-event fleet: workloads, baselines, reports."""

from agentic_serving.simulation.engine import simulate
from agentic_serving.simulation.metrics import Summary, summary
from agentic_serving.simulation.records import Result
from agentic_serving.simulation.scripts import Gaps
from agentic_serving.simulation.setup import (
    ClosedLoop,
    Failure,
    Fleet,
    Hints,
    OpenLoop,
    PrefillPool,
    Seat,
    Setup,
    Stacks,
)
from agentic_serving.simulation.views import Ended, Policy, PolicyBase, ReplicaView, TurnHints, TurnView
from agentic_serving.simulation.workloads import Workload

__all__ = [
    "ClosedLoop",
    "Ended",
    "Failure",
    "Fleet",
    "Gaps",
    "Hints",
    "OpenLoop",
    "Policy",
    "PolicyBase",
    "PrefillPool",
    "ReplicaView",
    "Result",
    "Seat",
    "Setup",
    "Stacks",
    "Summary",
    "TurnHints",
    "TurnView",
    "Workload",
    "simulate",
    "summary",
]
