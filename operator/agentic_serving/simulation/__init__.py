"""Policies in a discrete-event fleet: workloads, baselines, reports."""

from agentic_serving.simulation.engine import simulate
from agentic_serving.simulation.metrics import Summary, summary
from agentic_serving.simulation.records import Result
from agentic_serving.simulation.scripts import Gaps
from agentic_serving.simulation.setup import ClosedLoop, Fleet, OpenLoop, Setup
from agentic_serving.simulation.views import Ended, Policy, PolicyBase, ReplicaView, TurnView
from agentic_serving.simulation.workloads import Workload

__all__ = [
    "ClosedLoop",
    "Ended",
    "Fleet",
    "Gaps",
    "OpenLoop",
    "Policy",
    "PolicyBase",
    "ReplicaView",
    "Result",
    "Setup",
    "Summary",
    "TurnView",
    "Workload",
    "simulate",
    "summary",
]
