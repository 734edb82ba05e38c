"""Fan-out: a parent that starts many sub-agents at once and waits for the last of them; samples of one prompt."""

from dataclasses import dataclass
from random import Random

from agentic_serving.workload.generate.draws import lognormal, many
from agentic_serving.workload.generate.talk import Context, Ids, Talk, program
from agentic_serving.workload.types import Program, TurnId

__all__ = ["FanOut", "Rollouts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FanOut:
    """A coding agent whose turns fork sub-agents; pairs are mean and standard deviation.

    Sizes of prompts are those that released clients were seen to send: 76 KB for a parent's first prompt, and 45 KB of
    tools and system that siblings share with each other and not with their parent (Claude Code; four bytes a token).
    Gaps are AgentServeSim's (arXiv:2606.09613). In recorded sessions (callanjfox/kv-cache-tester) sub-agents do 4 to 22
    turns, answer with some 300 tokens and report at the end with thousands. The number of forks, the lengths of
    reports and what tools bring are assumed.

    Attributes:
        children: the fewest and the most of one fork; each number is as likely.
        forks: per program, one after the other.
        shared_tokens: tools and system of the children.
        from_context: children go on from the parent's last prompt instead, as forks of a conversation do.
        task_tokens: what the parent tells one child.
        report_tokens: the last answer of a child, which the parent's next prompt holds.
        join_tokens: the parent's answer to all reports: one longer turn.
    """

    block_size: int = 64
    children: tuple[int, int] = (8, 32)
    forks: int = 3
    parent_tokens: int = 19_000
    shared_tokens: int = 11_250
    from_context: bool = False
    task_tokens: tuple[float, float] = (400, 200)
    child_turns: tuple[float, float] = (6, 4)
    result_tokens: tuple[float, float] = (1_500, 3_000)
    answer_tokens: tuple[float, float] = (300, 200)
    report_tokens: tuple[float, float] = (1_000, 500)
    join_tokens: tuple[float, float] = (1_500, 750)
    tool_s: tuple[float, float] = (1.161, 4.125)

    def programs(self, n: int, random: Random) -> tuple[Program, ...]:
        return tuple(self._program(f"fan-out-{i}", random) for i in range(n))

    def _program(self, name: str, random: Random) -> Program:
        ids = Ids(self.block_size)
        root = Talk(name, ids)
        root.hear(self.parent_tokens)
        shared = root.context if self.from_context else Context().grown(self.shared_tokens, ids)
        root.answer(many(random, *self.answer_tokens), kind="human")
        talks = [root]
        for fork in range(self.forks):
            n_children = random.randint(*self.children)
            forked = [
                self._child(f"{name}/{fork}.{i}", root.last, shared, ids, random) for i in range(n_children)
            ]
            talks += forked
            root.hear(sum(child.turns[-1].output_tokens for child in forked))
            shared = root.context if self.from_context else shared
            root.answer(many(random, *self.join_tokens), after=[child.last for child in forked])
        return program(name, talks)

    def _child(self, name: str, parent: TurnId, shared: Context, ids: Ids, random: Random) -> Talk:
        talk = Talk(
            name, ids, shared, agent="subagent", parent=parent.session, system_tokens=self.shared_tokens
        )
        talk.hear(many(random, *self.task_tokens))
        n_turns = many(random, *self.child_turns)
        for index in range(n_turns):
            if index:
                talk.hear(many(random, *self.result_tokens))
            report = index == n_turns - 1
            talk.answer(
                many(random, *(self.report_tokens if report else self.answer_tokens)),
                gap_s=lognormal(random, *self.tool_s),
                after=() if index else (parent,),
            )
        return talk


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts:
    """Reinforcement learning: samples of one prompt, all asked for at once; a program is one prompt.

    512 samples are the RL setting of this project's figures. Lengths are assumed: a problem and its instructions, and
    answers with the heavy tail that makes the slowest sample late (deviation = mean).
    """

    block_size: int = 64
    samples: int = 512
    prompt_tokens: tuple[float, float] = (1_000, 500)
    answer_tokens: tuple[float, float] = (1_000, 1_000)

    def programs(self, n: int, random: Random) -> tuple[Program, ...]:
        return tuple(self._program(f"rollouts-{i}", random) for i in range(n))

    def _program(self, name: str, random: Random) -> Program:
        ids = Ids(self.block_size)
        prompt = Context().grown(many(random, *self.prompt_tokens), ids)
        talks = []
        for i in range(self.samples):
            talk = Talk(
                f"{name}/{i}" if i else name, ids, prompt, agent="rollout", parent=name if i else None
            )
            talk.answer(many(random, *self.answer_tokens), kind="human")
            talks.append(talk)
        return program(name, talks)
