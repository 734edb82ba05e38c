"""What clients declare of the future: the truth, what is true of another call, or the opposite."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from agentic_serving.capacity.runs import blocks, common_blocks
from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.path import Alone
from agentic_serving.simulation.scripts import Script, Work
from agentic_serving.simulation.views import TurnHints

__all__ = ["Hints", "declared", "truths"]

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """How good the hints are.

    Attributes:
        share_right: of the calls whose hints are true; which ones, the seed says.
        adversarial: the others say the opposite; else what is true of a call drawn from the whole workload.
    """

    share_right: float = 1.0
    adversarial: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.share_right <= 1:
            raise InvalidInput("share_right", "must be from 0 to 1")


def truths(script: Script, alone: Alone) -> tuple[TurnHints, ...]:
    """What is true of every call, with no contention."""
    following = {(work.session, work.index - 1): at for at, work in enumerate(script.works) if work.index}
    critical_s = _critical_s(script, alone)
    found = []
    for at, work in enumerate(script.works):
        after = following.get((work.session, work.index))
        children = {
            script.works[one].session for one in work.dependents if not script.works[one].index
        }  # a session's first call waits for those of other sessions alone
        found.append(
            TurnHints(
                follows="end" if after is None else script.works[after].kind,
                gap_s=None if after is None else alone.ready_s[after] - alone.end_s[at],
                fan_out=len(children),
                forks=sum(_goes_on(work, script.works[one]) for one in work.dependents),
                critical_s=critical_s[at],
            )
        )
    return tuple(found)


def declared(
    scripts: Sequence[Script], paths: Mapping[str, Alone], hints: Hints, seed: int
) -> dict[str, tuple[TurnHints, ...]]:
    """Of every script, by its id: the hints of its calls. The same under every policy."""
    true = {one.id: truths(one, paths[one.id]) for one in scripts}
    every = [hint for found in true.values() for hint in found]
    opposite = _Opposite(every)
    random = Random(f"hints {seed}")  # noqa: S311 - a workload, not a secret
    told: dict[str, tuple[TurnHints, ...]] = {}
    for name, found in true.items():
        # Both draws are made for every call, so that the calls whose hints are true at a lower share are also at a higher.
        draws = [(random.random(), random.choice(every), hint) for hint in found]
        told[name] = tuple(
            hint if draw < hints.share_right else opposite.of(hint) if hints.adversarial else other
            for draw, other, hint in draws
        )
    return told


def _goes_on(work: Work, child: Work) -> bool:
    """Whether another session's first prompt begins with this one, but for its last block."""
    if child.index or child.session == work.session:
        return False
    return common_blocks(work.prompt_runs, child.prompt_runs) >= max(1, blocks(work.prompt_runs) - 1)


def _critical_s(script: Script, alone: Alone) -> list[float]:
    """From each call's arrival to the end of its task: a person's next words begin another."""
    root = script.works[0].session
    tail_s = [0.0] * len(script.works)
    for at in reversed(script.order):
        rest_s = [
            script.works[one].gap_s + tail_s[one]
            for one in script.works[at].dependents
            if script.works[one].session != root or script.works[one].kind != "human"
        ]
        tail_s[at] = alone.end_s[at] - alone.ready_s[at] + max(rest_s, default=0.0)
    return tail_s


class _Opposite:
    """The hints that mislead most: the highest for the lowest, the end for what goes on."""

    def __init__(self, every: Sequence[TurnHints]) -> None:
        self._gaps = sorted(hint.gap_s for hint in every if hint.gap_s is not None)
        self._widths = sorted(hint.fan_out for hint in every)
        self._forks = sorted(hint.forks for hint in every)
        self._critical = sorted(hint.critical_s for hint in every)

    def of(self, hint: TurnHints) -> TurnHints:
        goes_on = hint.gap_s is None
        return TurnHints(
            follows="tool" if goes_on else "end",
            gap_s=(self._gaps[0] if self._gaps else 0.0) if goes_on else None,
            fan_out=_mirrored(self._widths, hint.fan_out),
            forks=_mirrored(self._forks, hint.forks),
            critical_s=_mirrored(self._critical, hint.critical_s),
        )


def _mirrored(ordered: Sequence[T], value: T) -> T:
    """The value as far from the other end."""
    return ordered[len(ordered) - 1 - bisect_left(ordered, value)]
