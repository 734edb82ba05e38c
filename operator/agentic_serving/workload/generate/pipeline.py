"""Pipelines: a planner, a coder and a reviewer that hand over what they wrote, with loops back to the coder."""

from dataclasses import dataclass
from random import Random

from agentic_serving.workload.generate.draws import lognormal, lognormal_from_quantile, many
from agentic_serving.workload.generate.talk import Context, Ids, Talk, program
from agentic_serving.workload.types import Program, TurnId

__all__ = ["Pipeline"]

_P90 = 1.2816  # standard deviations above the median
_AGENTS = ("planner", "coder", "reviewer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Agents `planner`, `coder` and `reviewer`, which may use different stacks; pairs are mean and standard deviation.

    No trace of such a pipeline with prefixes is public. A program's size is the mean of the Exgentic agent traces (v2:
    10,056 sessions, 6 benchmarks, 5 harnesses: 22 calls, 49,100 prompt tokens and 659 answer tokens a call); tools take
    TraceLab's time (665,000 rounds: gap after a tool of 1.0 s in the median, 23.5 s at p90). How calls fall to agents
    (a fifth to the planner, of the rest two thirds to the coder), how often a reviewer sends work back and deviations
    are assumed.

    The planner works first and ends the program when a reviewer has accepted. What an agent wrote goes to the next one
    as text: agents share no blocks. All programs are of one scope: an agent's system prompt is the same in each.

    Attributes:
        calls: per program; at least one for each agent, and the planner's last.
        prompt_tokens: the mean over a program's calls. Prompts grow evenly within a session.
        system_tokens: every agent's.
        rejected: how likely a review sends the work back.
        most_rounds: of coder and reviewer.
        most_prompt_tokens: a model's context; programs that would outgrow it grow more slowly.
    """

    block_size: int = 64
    calls: tuple[float, float] = (22, 9)
    prompt_tokens: tuple[float, float] = (49_100, 20_000)
    answer_tokens: tuple[float, float] = (659, 400)
    system_tokens: int = 6_000
    rejected: float = 0.4
    most_rounds: int = 4
    tool_median_s: float = 1.0
    tool_p90_s: float = 23.5
    most_prompt_tokens: int = 262_144

    def programs(self, n: int, random: Random) -> tuple[Program, ...]:
        ids = Ids(self.block_size)
        systems = {agent: Context().grown(self.system_tokens, ids) for agent in _AGENTS}
        return tuple(self._program(f"pipeline-{i}", ids, systems, random) for i in range(n))

    def _program(self, name: str, ids: Ids, systems: dict[str, Context], random: Random) -> Program:
        rounds = 1
        while rounds < self.most_rounds and random.random() < self.rejected:
            rounds += 1
        planned, shares = self._shares(max(2 * rounds + 2, many(random, *self.calls)), rounds)
        mean = lognormal(random, *self.prompt_tokens)
        work = _Work(self, random, self._growth(mean, planned, shares))
        talks = {
            agent: Talk(
                name if agent == "planner" else f"{name}/{agent}",
                ids,
                systems[agent],
                agent=agent,
                parent=None if agent == "planner" else name,
                system_tokens=self.system_tokens,
            )
            for agent in _AGENTS
        }
        done = work.calls(talks["planner"], planned, None)
        for coded, reviewed in shares:
            done = work.calls(talks["coder"], coded, done)
            done = work.calls(talks["reviewer"], reviewed, done)
        work.calls(talks["planner"], 1, done)
        return program(name, list(talks.values()), scope="pipeline")

    def _shares(self, calls: int, rounds: int) -> tuple[int, list[tuple[int, int]]]:
        """The planner's calls before the first round, then the coder's and the reviewer's in each."""
        planned = max(1, round(calls / 5) - 1)
        left = max(calls - planned - 1, 2 * rounds)
        coded = min(max(rounds, round(left * 2 / 3)), left - rounds)
        return planned, list(zip(_split(coded, rounds), _split(left - coded, rounds), strict=True))

    def _growth(self, mean: float, planned: int, shares: list[tuple[int, int]]) -> float:
        """Tokens by which every prompt exceeds the session's one before: makes prompts `mean` tokens long."""
        counts = (planned + 1, sum(c for c, _ in shares), sum(r for _, r in shares))
        steps = sum(count * (count + 1) / 2 for count in counts)
        room = (self.most_prompt_tokens - self.system_tokens) / max(counts)
        return min((mean - self.system_tokens) * sum(counts) / steps, room)


@dataclass(frozen=True, slots=True)
class _Work:
    """What agents of one program do."""

    shape: Pipeline
    random: Random
    growth: float

    def calls(self, talk: Talk, count: int, after: TurnId | None) -> TurnId:
        """So many turns of an agent; the first of them waits for another agent's turn."""
        shape = self.shape
        for index in range(count):
            answered = talk.turns[-1].output_tokens if talk.turns else 0
            handed = index == 0 and after is not None
            talk.hear(max(1, round(self.growth) - answered))
            first = not talk.turns and after is None
            talk.answer(
                many(self.random, *shape.answer_tokens),
                gap_s=0.0 if handed or first else self._tool_s(),
                kind="human" if first else "tool",
                after=(after,) if handed and after is not None else (),
            )
        return talk.last

    def _tool_s(self) -> float:
        return lognormal_from_quantile(self.random, self.shape.tool_median_s, self.shape.tool_p90_s, _P90)


def _split(count: int, parts: int) -> list[int]:
    """As even as whole numbers can be, more first."""
    return [count // parts + (i < count % parts) for i in range(parts)]
