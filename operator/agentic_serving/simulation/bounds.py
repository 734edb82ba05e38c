"""What no policy can beat: lower bounds on the makespan and the mean completion of programs on a fleet.

Relaxations, each of which leaves out all others: a program's own critical path; the engines' work (every prompt block that no
answer brings is prefilled once, every answer's token after the first is decoded in a step of at most `max_seqs` others); and
the KV cache's space-time (a prompt is held while its answer is decoded). Jobs on m machines take at least their work divided
by m; their mean end is at least that of the shortest first on one machine m times as fast (Smith 1956; SRPT).

What programs of one scope or several sessions may share is not counted twice, so that the bounds hold for them too, and are
loose there: only what has a scope of its own and one session has its contention-free path and its space-time. Not counted:
attention's share of prefill. Not for tiers, prefill pools, several stacks and repeated programs.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean

from agentic_serving.capacity.runs import blocks, cut
from agentic_serving.simulation.fleets import Fleet
from agentic_serving.simulation.scripts import Script, Work
from agentic_serving.simulation.workloads import Workload

__all__ = ["FleetBound", "fleet_bound"]

_Interval = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetBound:
    """Seconds.

    Attributes:
        path_s: the longest program alone, human gaps included.
        work_s: of all engines' work, each engine's share.
        space_s: space-time of the KV, over what all caches hold.
        mean_path_s: a program alone, human gaps excluded.
        mean_work_s: mean completion where all start at once and nothing but the work took time; may be negative where
            people take long.
    """

    path_s: float
    work_s: float
    space_s: float
    mean_path_s: float
    mean_work_s: float

    @property
    def makespan_s(self) -> float:
        """From the first program's start to the last one's end, whenever they start."""
        return max(self.path_s, self.work_s, self.space_s)

    @property
    def mean_s(self) -> float:
        """Mean completion of the runs, human gaps excluded, where all programs start at once."""
        return max(self.mean_path_s, self.mean_work_s)


def fleet_bound(workload: Workload, fleet: Fleet) -> FleetBound:
    """The bounds for each program once."""
    scripts = workload.scripts
    scopes = Counter(one.scope for one in scripts)
    paths, works, space = [], [], 0.0
    for one in scripts:
        apart = scopes[one.scope] == 1 and len({work.session for work in one.works}) == 1
        paths.append(max(workload.alone(one).end_s) if apart else _least_path_s(one, fleet))
        works.append(_decode_s(one, fleet))
        if apart:
            works[-1] += _prefill_s([one], fleet)
            space += _space(one, fleet)
    prefill_s = sum(_prefill_s(some, fleet) for some in _by_scope(scripts))
    decode_s = sum(_decode_s(one, fleet) for one in scripts)
    human_s = fmean(one.human_s for one in scripts)
    return FleetBound(
        path_s=max(paths),
        work_s=(prefill_s + decode_s) / fleet.n_replicas,
        space_s=space / fleet.tokens,
        mean_path_s=fmean(path - one.human_s for path, one in zip(paths, scripts, strict=True)),
        mean_work_s=fmean(accumulate(sorted(works))) / fleet.n_replicas - human_s,
    )


def _by_scope(scripts: Iterable[Script]) -> Iterable[list[Script]]:
    found: dict[str, list[Script]] = defaultdict(list)
    for one in scripts:
        found[one.scope].append(one)
    return found.values()


def _least_path_s(one: Script, fleet: Fleet) -> float:
    """Every prompt is there but for its last token; a step takes no less than its base."""
    profile = fleet.profile
    end_s = [0.0] * len(one.works)
    for at in one.order:
        work = one.works[at]
        ready_s = max((end_s[earlier] for earlier in work.after), default=0.0) + work.gap_s
        end_s[at] = ready_s + work.output_tokens * profile.base_s + profile.prefill_token_s
    return max(end_s)


def _decode_s(one: Script, fleet: Fleet) -> float:
    """Every token after the first has its part of a step, and the prompt is read for it."""
    profile = fleet.profile
    token_s = profile.base_s / fleet.limits.max_seqs + profile.sequence_s
    return sum(
        (work.output_tokens - 1) * (token_s + profile.context_token_s * work.prompt_tokens)
        for work in one.works
    )


def _prefill_s(scripts: Iterable[Script], fleet: Fleet) -> float:
    """Of programs of one scope: each block once that no answer brings; of every prompt a token at least."""
    size = fleet.limits.block_size
    works = [work for one in scripts for work in one.works]
    prompts = [part for work in works for part in _intervals(work, answer=False)]
    answers = [part for work in works for part in _intervals(work, answer=True)]
    n_blocks = _covered([*prompts, *answers]) - _covered(answers)
    tails = sum(work.prompt_tokens % size for work in works)
    return max(n_blocks * size + tails, len(works)) * fleet.profile.prefill_token_s


def _intervals(work: Work, *, answer: bool) -> Iterator[_Interval]:
    begin = blocks(work.prompt_runs)
    runs = cut(work.runs, begin, blocks(work.runs)) if answer else work.prompt_runs
    return ((first, first + n) for first, n in runs)


def _covered(intervals: Iterable[_Interval]) -> int:
    """Blocks that are in one of them at least."""
    total, until = 0, 0
    for first, end in sorted(intervals):
        total += max(end - max(first, until), 0)
        until = max(until, end)
    return total


def _space(one: Script, fleet: Fleet) -> float:
    """Tokens times seconds: prompts are held from their first token to the last of the answer."""
    base_s = fleet.profile.base_s
    return sum(work.prompt_tokens * (work.output_tokens - 1) * base_s for work in one.works)
