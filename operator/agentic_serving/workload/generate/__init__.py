"""Programs of the canonical agentic workloads, drawn from published moments."""

from agentic_serving.workload.generate.kinds import KINDS, generate

__all__ = ["KINDS", "generate"]
