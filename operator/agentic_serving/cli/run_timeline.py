"""A run's time as a line to draw on: idle stretches are folded, so that an hour of a person's thinking hides no turn. Pure."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["Fold", "Scale", "scale_of", "ticks"]

#: An idle stretch longer than so much of all busy time is drawn as long as the second share, with a mark.
_FOLDED_FROM, _FOLDED_TO = 0.2, 0.06
_LEAST_IDLE_S = 1.0
_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Fold:
    """An idle stretch that is drawn shorter than it was."""

    begin_s: float
    end_s: float
    drawn_s: float


@dataclass(frozen=True, slots=True)
class Scale:
    """From seconds of the run to pixels."""

    begin_s: float
    end_s: float
    width: float
    folds: tuple[Fold, ...]

    @property
    def drawn_s(self) -> float:
        saved = sum(f.end_s - f.begin_s - f.drawn_s for f in self.folds)
        return max(self.end_s - self.begin_s - saved, 1e-3)

    def x(self, at_s: float) -> float:
        at_s = min(max(at_s, self.begin_s), self.end_s)
        passed = at_s - self.begin_s
        for fold in self.folds:
            if at_s <= fold.begin_s:
                break
            inside = min(at_s, fold.end_s) - fold.begin_s
            passed -= inside * (1 - fold.drawn_s / (fold.end_s - fold.begin_s))
        return passed / self.drawn_s * self.width


def scale_of(run: dict[str, Any], width: float) -> Scale:
    """Over all of a run's turns; one that has not ended goes on until now."""
    spans = sorted(
        (turn["came_s"], turn["ended_s"] if turn["ended_s"] is not None else run["now_s"])
        for session in run["sessions"]
        for turn in session["turns"]
    )
    if not spans:
        return Scale(0.0, 1.0, width, ())
    busy = _merged(spans)
    busy_s = sum(end - begin for begin, end in busy)
    most_s, drawn_s = (max(_LEAST_IDLE_S, share * busy_s) for share in (_FOLDED_FROM, _FOLDED_TO))
    idle = ((left[1], right[0]) for left, right in pairwise(busy))
    folds = tuple(Fold(begin, end, drawn_s) for begin, end in idle if end - begin > most_s)
    return Scale(busy[0][0], max(busy[-1][1], busy[0][0] + 1e-3), width, folds)


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, max(begin, end)))
    return merged


def ticks(scale: Scale, *, most: int = 10) -> list[float]:
    """Round times to label: about `most`, none within a fold."""
    least_s = scale.drawn_s / most
    power = 10.0 ** _floor_log10(least_s)
    step = next((s * power for s in _STEPS if s * power >= least_s), 10 * power)
    first = -(-scale.begin_s // step)
    count = min(int((scale.end_s - scale.begin_s) / step) + 2, 100_000)
    found = [(first + n) * step for n in range(count)]
    begins = [fold.begin_s for fold in scale.folds]
    return [at for at in found if at <= scale.end_s and not _folded(at, begins, scale.folds)]


def _folded(at_s: float, begins: list[float], folds: tuple[Fold, ...]) -> bool:
    index = bisect_right(begins, at_s) - 1
    return index >= 0 and at_s < folds[index].end_s


def _floor_log10(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
