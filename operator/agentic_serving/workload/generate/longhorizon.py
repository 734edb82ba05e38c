"""Long-horizon loops: one agent that calls tools for many turns, each prompt repeating the one before."""

from dataclasses import dataclass
from random import Random

from agentic_serving.workload.generate.draws import lognormal, many
from agentic_serving.workload.generate.talk import Ids, Talk, program
from agentic_serving.workload.types import Program

__all__ = ["LongHorizon"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LongHorizon:
    """SWE-bench-like programs; pairs are mean and standard deviation over programs, drawn from lognormal distributions.

    The defaults are AgentServeSim's (arXiv:2606.09613): 41.9 +- 14.9 turns, tools of 1161 +- 4125 ms, 356,031 +- 184,632
    prompt tokens over all turns of a program, of which .95 (median) repeat an earlier prompt. The length of answers is
    not published there: 85 tokens are assumed, with which one cell of its tiers' table comes out.

    Sessions as vLLM's AgentX post counts them (2026-09-08: median 43 turns, 142,000 prompt tokens a call, 444 answer
    tokens, more than 96 % cached): turns=(47.5, 22.3), tokens=(6_700_000, 3_000_000), answer_tokens=444.

    Attributes:
        turns: per program; at least 2.
        tokens: prompt tokens over all turns of a program. Prompts grow evenly from nothing, which makes the share that
            repeats an earlier prompt 1 - 2 / (turns + 1).
        tool_s: seconds before every turn but the first.
        most_prompt_tokens: a model's context; programs that would outgrow it grow more slowly.
    """

    block_size: int = 64
    turns: tuple[float, float] = (41.9, 14.9)
    tokens: tuple[float, float] = (356_031, 184_632)
    tool_s: tuple[float, float] = (1.161, 4.125)
    answer_tokens: int = 85
    most_prompt_tokens: int = 262_144

    def programs(self, n: int, random: Random) -> tuple[Program, ...]:
        return tuple(self._program(f"long-horizon-{i}", random) for i in range(n))

    def _program(self, name: str, random: Random) -> Program:
        n_turns = many(random, *self.turns, least=2)
        tokens = lognormal(random, *self.tokens)
        growth = tokens / (n_turns * (n_turns + 1) / 2)
        growth = max(
            min(growth, self.most_prompt_tokens / n_turns), self.answer_tokens + 1
        )  # the answer comes back
        talk = Talk(name, Ids(self.block_size))
        for index in range(n_turns):
            talk.hear(round(growth * (index + 1)) - talk.context.tokens)
            gap_s = lognormal(random, *self.tool_s) if index else 0.0
            talk.answer(self.answer_tokens, gap_s=gap_s, kind="tool" if index else "human")
        return program(name, [talk])
