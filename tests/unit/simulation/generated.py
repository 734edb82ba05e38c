"""Programs with published moments, for checks against published figures whose traces are not public."""

from dataclasses import dataclass
from math import exp, log, sqrt
from random import Random

from agentic_serving.workload import Program, Session, Turn

__all__ = ["AGENT_SERVE_SIM", "Moments", "generate"]

BLOCK = 16  # tokens; vLLM's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Means and standard deviations over programs; each is drawn from a lognormal distribution.

    Attributes:
        turns: per program; at least 2.
        tokens: prompt tokens over all turns of a program.
        tool_s: the gap before every turn but the first.
        answer: tokens of every answer.
    """

    turns: tuple[float, float]
    tokens: tuple[float, float]
    tool_s: tuple[float, float]
    answer: int


#: AgentServeSim (arXiv:2606.09613): SWE-bench programs. The length of answers is not published: 85 tokens are assumed,
#: with which one cell of its tiers' table (170.5 s at 0.04 programs/s) comes out; the others follow.
AGENT_SERVE_SIM = Moments(turns=(41.9, 14.9), tokens=(356_031, 184_632), tool_s=(1.161, 4.125), answer=85)


def generate(n: int, moments: Moments, *, seed: int, tool_scale: float = 1.0) -> tuple[Program, ...]:
    """Chains whose prompts grow evenly from nothing, each repeating the whole of the one before and its answer.

    Growth follows from turns and tokens. That prompts start from nothing is what makes the share that repeats an
    earlier prompt the published one (median .95): 1 - 2 / (turns + 1) of them.
    """
    random = Random(seed)
    return tuple(_program(f"p{i}", moments, random, tool_scale) for i in range(n))


def _program(name: str, moments: Moments, random: Random, tool_scale: float) -> Program:
    n_turns = max(2, round(_lognormal(random, *moments.turns)))
    tokens = _lognormal(random, *moments.tokens)
    growth = max(tokens / (n_turns * (n_turns + 1) / 2), moments.answer + 1)  # at least the answer comes back
    turns = []
    for index in range(n_turns):
        prompt = round(growth * (index + 1))
        turns.append(
            Turn(
                index=index,
                runs=((0, prompt // BLOCK),) if prompt >= BLOCK else (),
                block_size=BLOCK,
                prompt_tokens=prompt,
                output_tokens=moments.answer,
                gap_s=tool_scale * _lognormal(random, *moments.tool_s) if index else 0.0,
                gap_kind="tool" if index else "human",
                stop="tool" if index < n_turns - 1 else "end",
                stream=True,
                start_s=0.0,
                api_s=None,
                base=index - 1 if index else None,
            )
        )
    session = Session(id=name, parent=None, agent="main", tool_tokens=0, system_tokens=0, turns=tuple(turns))
    return Program(id=name, source="otel", scope=name, start_s=0.0, open_loop=False, sessions=(session,))


def _lognormal(random: Random, mean: float, deviation: float) -> float:
    spread = log(1 + (deviation / mean) ** 2)
    return exp(random.gauss(log(mean) - spread / 2, sqrt(spread)))
