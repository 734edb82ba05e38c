"""Recorded workloads: trace formats to programs, sessions and turns."""

from agentic_serving.workload.files import parse, read
from agentic_serving.workload.types import (
    GapKind,
    Message,
    Program,
    Session,
    Source,
    Task,
    Totals,
    Turn,
    TurnId,
    tasks,
    totals,
)

__all__ = [
    "GapKind",
    "Message",
    "Program",
    "Session",
    "Source",
    "Task",
    "Totals",
    "Turn",
    "TurnId",
    "parse",
    "read",
    "tasks",
    "totals",
]
