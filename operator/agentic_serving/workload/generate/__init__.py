"""Programs of the canonical agentic workloads, drawn from published moments."""

from agentic_serving.workload.generate.kinds import KINDS, generate
from agentic_serving.workload.generate.reasoning import freed_tokens

__all__ = ["KINDS", "freed_tokens", "generate"]
