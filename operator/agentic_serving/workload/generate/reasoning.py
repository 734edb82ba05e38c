"""Reasoning-heavy generation: long thoughts before an answer, which the next question's prompt no longer holds."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from agentic_serving.capacity.runs import blocks, common_blocks
from agentic_serving.workload.generate.draws import lognormal, lognormal_from_quantile, many
from agentic_serving.workload.generate.talk import Context, Ids, Talk, program
from agentic_serving.workload.types import Program, Turn

__all__ = ["Reasoning", "freed_tokens"]

_P743 = 0.6526  # standard deviations above the median: 25.7 % lie above
#: "<|im_start|>assistant\n<think>\n" of a chat template: the end of every prompt, of which a prompt that quotes the
#: answer without its thoughts keeps nothing.
_OPENING_TOKENS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """Conversations with a reasoning model; pairs are mean and standard deviation, drawn from lognormal distributions.

    12,000 reasoning tokens a question is DeepSeek-R1's mean on AIME 2025 (model card of DeepSeek-R1-0528, whose own is
    23,000), with the deviation equal to it: a tail of some that think ten times as long as most. Questions (6.66 a
    program, 256 tokens) and visible answers (277) are ShareGPT's as Autellix counts them (arXiv:2502.13965). A person's
    pause is TraceLab's (121.5 s in the median, 25.7 % above 5 min), a tool's AgentServeSim's. How many tools a
    question takes, and what they bring, is assumed.

    Chat templates (Qwen3, gpt-oss) keep thoughts while tools are called for one question and leave them out of every
    later question's prompt, which so repeats nothing behind the first call of the question before. Prompts here end
    with a whole block whose last tokens open the thoughts: the block where such a prompt diverges.

    Attributes:
        thought_tokens: of one question, even over its calls.
        most_thought_tokens: a generation limit: longer thoughts are cut (DeepSeek's evaluations: 32,768).
        tools: calls of tools for a question, in the mean; geometric.
        system_tokens: before the first question.
    """

    block_size: int = 64
    questions: tuple[float, float] = (6.66, 4)
    question_tokens: tuple[float, float] = (256, 200)
    thought_tokens: tuple[float, float] = (12_000, 12_000)
    most_thought_tokens: int = 32_768
    answer_tokens: tuple[float, float] = (277, 200)
    tools: float = 1.0
    result_tokens: tuple[float, float] = (500, 500)
    tool_s: tuple[float, float] = (1.161, 4.125)
    human_median_s: float = 121.5
    human_p74_s: float = 300.0
    system_tokens: int = 1_000

    def programs(self, n: int, random: Random) -> tuple[Program, ...]:
        return tuple(self._program(f"reasoning-{i}", random) for i in range(n))

    def _program(self, name: str, random: Random) -> Program:
        ids = Ids(self.block_size)
        system = Context().grown(self.system_tokens, ids)
        talk = Talk(name, ids, system, system_tokens=self.system_tokens)
        for _ in range(many(random, *self.questions)):
            self._question(talk, ids, random)
        return program(name, [talk])

    def _question(self, talk: Talk, ids: Ids, random: Random) -> None:
        """All calls of one question; then the context is what the next question's prompt begins with."""
        talk.hear(many(random, *self.question_tokens))
        talk.context = talk.context.rounded(ids)
        kept = talk.context.cut(talk.context.tokens - _OPENING_TOKENS, ids)
        calls = 1
        while random.random() < self.tools / (1 + self.tools):
            calls += 1
        thought = min(lognormal(random, *self.thought_tokens), self.most_thought_tokens)
        said = 0
        for call in range(calls):
            if call:
                brought = many(random, *self.result_tokens)
                talk.hear(brought)
                said += brought
            visible = many(random, *self.answer_tokens)
            talk.answer(
                max(1, round(thought / calls)) + visible,
                gap_s=lognormal(random, *self.tool_s) if call else self._pause_s(random),
                kind="tool" if call else "human",
            )
            said += visible
        talk.context = kept.grown(said, ids)

    def _pause_s(self, random: Random) -> float:
        return lognormal_from_quantile(random, self.human_median_s, self.human_p74_s, _P743)


def freed_tokens(programs: Iterable[Program]) -> int:
    """Tokens of KV that turns leave behind and the session's next prompt does not begin with, summed over turns.

    They may go as soon as the template is known to drop them: thoughts, and what was said behind them. Times the
    model's bytes per token these are the bytes that are freed.
    """
    return sum(
        _freed(turn, following)
        for program in programs
        for session in program.sessions
        for turn, following in pairwise(session.turns)
    )


def _freed(turn: Turn, following: Turn) -> int:
    common = common_blocks(turn.runs, following.runs)
    if common == blocks(turn.runs):
        return 0  # the answer comes back too
    return turn.prompt_tokens + turn.output_tokens - common * turn.block_size
