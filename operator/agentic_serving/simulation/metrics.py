"""A simulation's figures: distributions of completion, slowdown and first token, recompute, holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, nan
from statistics import fmean

from agentic_serving.simulation.records import Result, Timed

__all__ = ["METRICS", "Distribution", "Summary", "distribution", "percentile", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Percentiles are the smallest value that so many percent do not exceed; all NaN where there is none."""

    n: int
    mean: float
    p50: float
    p95: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Seconds but for slowdown (a ratio) and recompute.

    Attributes:
        recompute_share: of the prompt tokens that had been computed before, the part that was computed again;
            `recomputed_tokens` are those.
        prefill_share: of all prompt tokens, the part that was computed.
        transferred_bytes: KV from replicas that only prefill; `loaded_tokens` are those whose KV came from tiers.
        failed: tries that ended without an answer; `misplaced` and `given_up`: see `Result`.
        held_s: the longest any turn was held at the router.
    """

    task_s: Distribution
    task_slowdown: Distribution
    run_s: Distribution
    run_slowdown: Distribution
    first_token_s: Distribution
    hold_s: Distribution
    unfinished_tasks: int
    unfinished_runs: int
    turns: int
    preemptions: int
    recompute_share: float
    prefill_share: float
    held_s: float
    end_s: float
    recomputed_tokens: int
    transferred_bytes: int
    loaded_tokens: int
    failed: int
    misplaced: int
    given_up: int


#: Names under which one number of a summary is compared.
METRICS = (
    *(f"{name}.{part}" for name in ("task_s", "task_slowdown", "run_s", "run_slowdown", "first_token_s")
      for part in ("mean", "p50", "p95", "p99")),
    "recompute_share",
    "prefill_share",
    "held_s",
)  # fmt: skip


def summary(result: Result) -> Summary:
    """The figures of one simulation."""
    turns = result.turns
    return Summary(
        task_s=distribution(task.took_s for task in result.tasks),
        task_slowdown=distribution(_slowdowns(result.tasks)),
        run_s=distribution(run.took_s for run in result.runs),
        run_slowdown=distribution(_slowdowns(result.runs)),
        first_token_s=distribution(turn.first_token_s - turn.arrived_s for turn in turns),
        hold_s=distribution(turn.held_s for turn in turns),
        unfinished_tasks=sum(not task.finished for task in result.tasks),
        unfinished_runs=sum(not run.finished for run in result.runs),
        turns=len(turns),
        preemptions=sum(turn.preemptions for turn in turns),
        recompute_share=_share(
            sum(turn.recomputed_tokens for turn in turns), sum(turn.repeated_tokens for turn in turns)
        ),
        prefill_share=_share(
            sum(turn.prompt_tokens - turn.cached_tokens for turn in turns),
            sum(turn.prompt_tokens for turn in turns),
        ),
        held_s=result.held_s,
        end_s=result.end_s,
        recomputed_tokens=sum(turn.recomputed_tokens for turn in turns),
        transferred_bytes=sum(turn.transferred_bytes for turn in turns),
        loaded_tokens=sum(turn.loaded_tokens for turn in turns),
        failed=result.failed,
        misplaced=result.misplaced,
        given_up=result.given_up,
    )


def distribution(values: Iterable[float]) -> Distribution:
    found = sorted(values)
    if not found:
        return Distribution(n=0, mean=nan, p50=nan, p95=nan, p99=nan, most=nan)
    return Distribution(
        n=len(found),
        mean=fmean(found),
        p50=percentile(found, 50),
        p95=percentile(found, 95),
        p99=percentile(found, 99),
        most=found[-1],
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of values in ascending order; at least one."""
    return ordered[max(ceil(len(ordered) * percent / 100), 1) - 1]


def _slowdowns(items: Iterable[Timed]) -> Iterable[float]:
    """An unfinished one counts only once it is later than alone: before that nothing is lost."""
    return (item.slowdown for item in items if item.finished or item.slowdown > 1)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
