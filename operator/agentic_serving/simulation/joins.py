"""Fan-outs of a simulation: how long each took to join, and how often its siblings' common prefix was prefilled.

A fan-out is sessions of one program whose first turns wait for the same turns of others: sub-agents of one answer,
candidates of one step of a search, or samples that start with their program.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agentic_serving.capacity.runs import common_blocks
from agentic_serving.simulation.metrics import Distribution, distribution
from agentic_serving.simulation.path import Alone
from agentic_serving.simulation.records import Result, Timed, TurnRecord
from agentic_serving.simulation.scripts import Script
from agentic_serving.simulation.workloads import Workload

__all__ = ["Join", "JoinSummary", "Place", "join_summary", "joins"]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A replica that computes prompts: of a stack, one that decodes too or one that only prefills."""

    stack: str
    replica: int
    prefill_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """One fan-out.

    Attributes:
        latency: from the end of the turn that forked (or the program's start) to the end of the last sibling's last
            turn; of one that has not joined, its age at the end.
        siblings: how many sessions; `children` names them as turns' records do.
        shared_tokens: of the prefix that all siblings' first prompts begin with, in whole blocks.
        prefills: by replica, how many siblings' first turns computed more than half of that prefix there; 0 for one
            that was used and always found it. At most 1 is what a fan-out needs.
        computed_tokens: of that prefix, by all first turns together; less than half of it each counts here too.
    """

    latency: Timed
    children: tuple[str, ...]
    shared_tokens: int
    prefills: Mapping[Place, int]
    computed_tokens: int

    @property
    def siblings(self) -> int:
        return len(self.children)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinSummary:
    """Figures over fan-outs.

    Attributes:
        latency_s: of all, those that have not joined with their age; `slowdown` is against no contention at all, which
            an unfinished one is part of once it is above 1.
        replicas: that one fan-out used, in the mean.
        computed_share: of the shared prefixes, what siblings computed, against once on every replica that they used.
        prefills_per_replica: of a fan-out's shared prefix, over all pairs of a fan-out and a replica that it used;
            `prefilled_again` is the share of the pairs where it was more than one.
    """

    latency_s: Distribution
    slowdown: Distribution
    unfinished: int
    replicas: float
    computed_share: float
    prefills_per_replica: Distribution
    prefilled_again: float


def joins(result: Result, workload: Workload) -> tuple[Join, ...]:
    """Every fan-out that was started in the runs of a result, in the order of runs.

    With a warm-up, runs that started in it are left out whole.
    """
    size = workload.limits.block_size
    fans = {one.id: _fans(one, workload.alone(one), size) for one in workload.scripts}
    turns: dict[str, dict[str, dict[int, TurnRecord]]] = defaultdict(lambda: defaultdict(dict))
    for turn in result.turns:
        turns[turn.program][turn.session][turn.index] = turn
    return tuple(
        join
        for run in result.runs
        for fan in fans[_script(run.id, fans)]
        if (join := _join(fan, run, turns[run.id], result.end_s)) is not None
    )


def join_summary(found: Iterable[Join]) -> JoinSummary:
    """The figures of some fan-outs."""
    fans = tuple(found)
    pairs = [count for join in fans for count in join.prefills.values()]
    needed = sum(join.shared_tokens * len(join.prefills) for join in fans)
    return JoinSummary(
        latency_s=distribution(join.latency.took_s for join in fans),
        slowdown=distribution(
            join.latency.slowdown for join in fans if join.latency.finished or join.latency.slowdown > 1
        ),
        unfinished=sum(not join.latency.finished for join in fans),
        replicas=len(pairs) / len(fans) if fans else 0.0,
        computed_share=sum(join.computed_tokens for join in fans) / needed if needed else 0.0,
        prefills_per_replica=distribution(pairs),
        prefilled_again=sum(count > 1 for count in pairs) / len(pairs) if pairs else 0.0,
    )


@dataclass(frozen=True, slots=True)
class _Fan:
    """A fan-out of a script: the turns (session, index) that it waits for, and its children's last ones."""

    number: int
    after: tuple[tuple[str, int], ...]
    lasts: tuple[tuple[str, int], ...]
    shared_tokens: int
    alone_s: float


def _fans(script: Script, alone: Alone, block_size: int) -> tuple[_Fan, ...]:
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    last: dict[str, int] = {}
    for at, work in enumerate(script.works):
        last[work.session] = at
        if not work.index:
            groups[work.after].append(at)
    found: list[_Fan] = []
    for after, firsts in groups.items():
        if len(firsts) < 2:
            continue
        works = [script.works[at] for at in firsts]
        lasts = [last[work.session] for work in works]
        shared = min(common_blocks(works[0].prompt_runs, work.prompt_runs) for work in works)
        began_s = max((alone.end_s[at] for at in after), default=0.0)
        found.append(
            _Fan(
                number=len(found),
                after=tuple((script.works[at].session, script.works[at].index) for at in after),
                lasts=tuple((script.works[at].session, script.works[at].index) for at in lasts),
                shared_tokens=shared * block_size,
                alone_s=max(alone.end_s[at] for at in lasts) - began_s,
            )
        )
    return tuple(found)


def _join(fan: _Fan, run: Timed, turns: Mapping[str, Mapping[int, TurnRecord]], now_s: float) -> Join | None:
    """None: it has not begun."""

    def of(place: tuple[str, int]) -> TurnRecord | None:
        session, index = place
        return turns.get(f"{run.id}/{session}", {}).get(index)

    forked, ended = [of(one) for one in fan.after], [of(one) for one in fan.lasts]
    if None in forked:
        return None
    began_s = max((turn.finished_s for turn in forked if turn), default=run.arrived_s)
    finished = None not in ended
    end_s = max(turn.finished_s for turn in ended if turn) if finished else now_s
    firsts = [turn for session, _ in fan.lasts if (turn := of((session, 0))) is not None]
    return Join(
        latency=Timed(
            id=f"{run.id}/fork{fan.number}",
            arrived_s=began_s,
            took_s=end_s - began_s,
            alone_s=fan.alone_s,
            finished=finished,
        ),
        children=tuple(f"{run.id}/{session}" for session, _ in fan.lasts),
        shared_tokens=fan.shared_tokens,
        prefills=_prefills(firsts, fan.shared_tokens),
        computed_tokens=sum(_computed(turn, fan.shared_tokens) for turn in firsts),
    )


def _prefills(firsts: Iterable[TurnRecord], shared_tokens: int) -> dict[Place, int]:
    """By replica used, how many of these computed more than half of what all share."""
    found: dict[Place, int] = {}
    if not shared_tokens:
        return found
    for turn in firsts:
        place = (
            Place(turn.stack, turn.replica)
            if turn.prefill is None
            else Place(turn.stack, turn.prefill, prefill_only=True)
        )
        found[place] = found.get(place, 0) + (_computed(turn, shared_tokens) * 2 > shared_tokens)
    return found


def _computed(turn: TurnRecord, shared_tokens: int) -> int:
    return max(0, shared_tokens - turn.cached_tokens)


def _script(run: str, fans: Mapping[str, object]) -> str:
    """The script of a run: later laps have a number behind their name."""
    return run if run in fans else run.rpartition("#")[0]
