"""Tree search: every step expands the most promising node by several candidates at once; paths share prefixes."""

from dataclasses import dataclass
from random import Random
from statistics import fmean

from agentic_serving.workload.generate.draws import lognormal, many
from agentic_serving.workload.generate.talk import Context, Ids, Talk, program
from agentic_serving.workload.types import Program, TurnId

__all__ = ["TreeSearch"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """One candidate before it is asked for: the node it expands (-1: the question), and what it adds to the path."""

    parent: int
    depth: int
    act_tokens: int
    value_tokens: int
    result_tokens: int

    @property
    def added_tokens(self) -> int:
        return self.act_tokens + self.result_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSearch:
    """LATS as Autellix (arXiv:2502.13965) counts it: 159.7 calls a program, 467 prompt and 73 answer tokens a call.

    The root asks once, then every step forks `width` candidates, each of two calls: an action, and after its tool the
    state's value. The next step waits for all of them, and the root's second and last turn for the last step. Of the
    question so much is left as makes the program's prompts 467 tokens in the mean. Width and depth are those of LATS on
    HotPotQA (arXiv:2310.04406: 5 samples a step, 7 levels). Which node is promising is not known to a generator: each
    open one is as likely. Deviations, and what tools bring, are assumed; tools take AgentServeSim's time.

    Attributes:
        calls: per program.
        width: candidates of one step.
        depth: levels below the question.
        result_tokens: what a tool brings, and a value's instructions.
    """

    block_size: int = 64
    calls: tuple[float, float] = (159.7, 80)
    prompt_tokens: int = 467
    answer_tokens: tuple[float, float] = (73, 40)
    result_tokens: tuple[float, float] = (20, 10)
    width: int = 5
    depth: int = 7
    tool_s: tuple[float, float] = (1.161, 4.125)

    def programs(self, n: int, random: Random) -> tuple[Program, ...]:
        return tuple(self._program(f"tree-search-{i}", random) for i in range(n))

    def _program(self, name: str, random: Random) -> Program:
        calls = lognormal(random, *self.calls)
        plans = self._plans(max(1, round((calls - 2) / (2 * self.width))), random)
        ids = Ids(self.block_size)
        question = Context().grown(self._question_tokens(plans), ids)
        root = Talk(name, ids, question)
        root.answer(many(random, *self.answer_tokens), kind="human")
        talks = [root]
        paths: list[Context] = []
        waits: tuple[TurnId, ...] = (root.last,)
        for first in range(0, len(plans), self.width):
            forked = []
            for at, plan in enumerate(plans[first : first + self.width], start=first):
                path = question if plan.parent < 0 else paths[plan.parent]
                talk = Talk(f"{name}/{at}", ids, path, agent="candidate", parent=name)
                paths.append(self._ask(talk, plan, waits, random))
                forked.append(talk)
            talks += forked
            waits = tuple(talk.last for talk in forked)
        root.answer(many(random, *self.answer_tokens), after=waits)
        return program(name, talks)

    def _plans(self, steps: int, random: Random) -> list[_Plan]:
        """The tree's nodes, `width` a step."""
        plans: list[_Plan] = []
        opened = [-1]
        for _ in range(steps):
            parent = opened.pop(random.randrange(len(opened))) if opened else -1
            depth = plans[parent].depth + 1 if parent >= 0 else 1
            if depth < self.depth:
                opened += range(len(plans), len(plans) + self.width)
            for _ in range(self.width):
                act, value = (many(random, *self.answer_tokens) for _ in range(2))
                plans.append(_Plan(parent, depth, act, value, many(random, *self.result_tokens)))
        return plans

    def _question_tokens(self, plans: list[_Plan]) -> int:
        """What is left of the mean prompt once paths are taken off; a quarter of it at least."""
        paths: list[int] = []
        added: list[int] = []
        for plan in plans:
            before = paths[plan.parent] if plan.parent >= 0 else 0
            paths.append(before + plan.added_tokens)
            added += (before, paths[-1])
        return max(self.prompt_tokens // 4, round(self.prompt_tokens - fmean(added)))

    def _ask(self, talk: Talk, plan: _Plan, waits: tuple[TurnId, ...], random: Random) -> Context:
        """Both calls of a candidate; the path that it leads to, of which its value is no part."""
        talk.answer(plan.act_tokens, after=waits)
        talk.hear(plan.result_tokens)
        path = talk.context
        talk.answer(plan.value_tokens, gap_s=lognormal(random, *self.tool_s))
        return path
