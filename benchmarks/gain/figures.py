"""What a replay through the chain comes to: how long tasks took, what was computed again, what failed.

A task counts if it began after the first fifth of the run; one that does not end counts with its age, as otherwise an arm
would gain by finishing less. Only a program's root session has tasks: its sub-agents work for them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agentic_serving.capacity.runs import ids
from agentic_serving.replay.records import TurnRecord
from agentic_serving.simulation.grid import Interval, paired_ratio
from agentic_serving.simulation.metrics import distribution
from agentic_serving.workload import Program

__all__ = ["WARMUP_SHARE", "Open", "Outcome", "gain", "outcome"]

WARMUP_SHARE = 0.2
#: Smaller times would make ratios of nothing.
_LEAST_S = 1e-3


@dataclass(frozen=True, slots=True)
class Open:
    """A turn that was still running when the run ended."""

    program: str
    session: str
    turn: int
    started_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run of one arm. Times in seconds.

    Attributes:
        unfinished: of `tasks`, how many count with their age.
        recompute_share: of the prompt tokens that had been computed before (whole blocks), those computed again.
        cached_share: of all prompt tokens, as the engines reported them.
        failed: requests that were not answered with 200 to their end, those that a retry replaced included.
        errors: the same by what the client saw.
    """

    task_mean_s: float
    task_p50_s: float
    task_p95_s: float
    tasks: int
    unfinished: int
    turns: int
    recompute_share: float
    cached_share: float
    first_token_p50_s: float
    failed: int
    errors: Mapping[str, int] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        return asdict(self)


def outcome(
    programs: Sequence[Program], records: Sequence[TurnRecord], still: Iterable[Open], seconds: float
) -> Outcome:
    """Of a run that lasted so long."""
    known = {program.id: program for program in programs}
    after_s = seconds * WARMUP_SHARE
    done, ages = _tasks(known, records, still, seconds)
    times = [took for start, took in (*done, *ages) if start >= after_s]
    good = [record for record in records if record.kind == "turn" and not record.error]
    late = [record for record in good if record.started_s + record.completion_s >= after_s]
    found = distribution(times or [0.0])
    repeated, again = _recomputed(known, good, after_s)
    errors = Counter(kind for record in records for kind in (*record.retried, record.error) if kind)
    prompt = sum(record.usage.prompt for record in late if record.usage)
    return Outcome(
        task_mean_s=found.mean,
        task_p50_s=found.p50,
        task_p95_s=found.p95,
        tasks=len(times),
        unfinished=sum(start >= after_s for start, _ in ages),
        turns=len(late),
        recompute_share=again / repeated if repeated else 0.0,
        cached_share=sum(record.usage.cached or 0 for record in late if record.usage) / max(1, prompt),
        first_token_p50_s=distribution(
            [r.first_token_s for r in late if r.first_token_s is not None] or [0.0]
        ).p50,
        failed=errors.total(),
        errors=dict(errors),
    )


def gain(metric: str, theirs: Mapping[int, Outcome], ours: Mapping[int, Outcome]) -> Interval:
    """How many times smaller the metric is in ours: geometric mean over seeds that both have, 95 % by t on logarithms."""
    pairs = [
        (max(getattr(theirs[seed], metric), _LEAST_S), max(getattr(ours[seed], metric), _LEAST_S))
        for seed in sorted(theirs.keys() & ours.keys())
    ]
    return paired_ratio(pairs)


_Timed = tuple[float, float]  # start, seconds


def _tasks(
    known: Mapping[str, Program], records: Sequence[TurnRecord], still: Iterable[Open], seconds: float
) -> tuple[list[_Timed], list[_Timed]]:
    """Those that ended, and the others with their ages."""
    first: dict[tuple[int, str, int], float] = {}
    last: dict[tuple[int, str, int], float] = {}
    for record in records:
        if record.kind != "turn" or record.session != known[record.program].sessions[0].id:
            continue
        key = (record.lap, record.program, record.task)
        first[key] = min(first.get(key, record.started_s), record.started_s)
        if record.ends_task:
            last[key] = record.started_s + record.completion_s
    done = [(start, last[key] - start) for key, start in first.items() if key in last]
    open_since = [start for key, start in first.items() if key not in last]
    for turn in still:  # a task whose first turn has no answer yet
        program = known[turn.program]
        if turn.session == program.sessions[0].id and _begins(program, turn.turn):
            open_since.append(turn.started_s)
    return done, [(start, max(0.0, seconds - start)) for start in open_since]


def _begins(program: Program, index: int) -> bool:
    return index == 0 or program.sessions[0].turns[index].gap_kind == "human"


def _recomputed(known: Mapping[str, Program], good: Sequence[TurnRecord], after_s: float) -> tuple[int, int]:
    """(prompt tokens that an earlier turn had at the same place, those of them that were not cached)."""
    turns = {
        (program.id, session.id, turn.index): turn
        for program in known.values()
        for session, turn in program.turns()
    }
    seen: dict[tuple[int, str], set[int]] = {}
    repeated = again = 0
    for record in sorted(good, key=lambda one: one.started_s):
        turn = turns[record.key]
        blocks = seen.setdefault((record.lap, known[record.program].scope), set())
        mine = list(ids(turn.runs))
        before = sum(block in blocks for block in mine) * turn.block_size
        blocks.update(mine)
        if record.usage is not None and record.started_s + record.completion_s >= after_s:
            repeated += before
            again += max(0, before - (record.usage.cached or 0))
    return repeated, again
