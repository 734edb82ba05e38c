"""Programs with published moments, for checks against published figures whose traces are not public."""

from random import Random

from agentic_serving.workload import Program
from agentic_serving.workload.generate.longhorizon import LongHorizon

__all__ = ["AGENT_SERVE_SIM", "BLOCK", "generate"]

BLOCK = 16  # tokens; vLLM's default

#: AgentServeSim (arXiv:2606.09613): SWE-bench programs; the generator's own defaults.
AGENT_SERVE_SIM = LongHorizon(block_size=BLOCK)


def generate(n: int, moments: LongHorizon, *, seed: int, tool_scale: float = 1.0) -> tuple[Program, ...]:
    """So many programs; gaps of tools times `tool_scale`."""
    mean_s, deviation_s = moments.tool_s
    scaled = LongHorizon(
        block_size=moments.block_size,
        turns=moments.turns,
        tokens=moments.tokens,
        answer_tokens=moments.answer_tokens,
        tool_s=(mean_s * tool_scale, deviation_s * tool_scale),
    )
    return scaled.programs(n, Random(seed))
