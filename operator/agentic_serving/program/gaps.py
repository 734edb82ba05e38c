"""How long a session stays away between two turns, learned online by program and by what it waits for.

Three levels of histograms: program and cause, program and kind of cause, kind. Each level is mixed with the one above it,
`PSEUDO` samples of that one against its own; above the last stands a prior from published traces. All are
histograms over the same buckets, so a mixture's answer is exact up to the bucket: within one, gaps are spread evenly
over the logarithm.

Bounded: a program cannot push out what others taught (`max_keys` / 16 causes each), names count up to 128 characters.
Not modelled: time of day; gaps still open teach nothing until the host says that they ended (`learn`, `learn_end`).
"""

import math
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal

from agentic_serving.errors import Bug, InvalidInput
from agentic_serving.program.request import MAX_ID_CHARS

__all__ = ["HUMAN", "GapKind", "GapModel"]

GapKind = Literal["human", "tool"]

#: The cause that is no tool's name.
HUMAN = "human"

#: Buckets, and what they cover: below 10 ms no wait is worth a decision, after 6 h no cache is worth keeping.
_BUCKETS = 48
_FIRST_S = 0.01
_LAST_S = 6 * 3600.0
_STEP = math.log(_LAST_S / _FIRST_S) / _BUCKETS

#: About so many of the newest samples count (their weights sum up to it).
_MEMORY = 500
#: Weights grow instead of all others shrinking; beyond this they are scaled down together.
_LARGE = 1e12

#: So many samples of the level above count beside a level's own.
PSEUDO = 20.0

#: Median gap in seconds, spread (standard deviation of its logarithm), share that never returns.
#: TraceLab's agent sessions, 665,000 rounds: after a tool p50 1.0 s and p90 23.5 s; before a human p50 121.5 s and
#: 25.7 % over 5 min. Log-normal through both points. Never: of the tuning half's main sessions (tests/traces/README.md),
#: 79 of 818 answers to a human were the last, none to a tool; one in 100 leaves room for clients that are killed.
_PRIORS: dict[GapKind, tuple[float, float, float]] = {
    "tool": (1.0, math.log(23.5) / 1.2816, 0.01),
    "human": (121.5, math.log(300 / 121.5) / 0.6526, 0.1),
}


class _Histogram:
    """Weights of the buckets and, last, of the gaps that never ended or lasted over `_LAST_S`."""

    __slots__ = ("_tails", "_unit", "_weights")

    def __init__(self) -> None:
        self._weights = array("d", bytes(8 * (_BUCKETS + 1)))
        self._unit = 1.0  # the newest sample's weight
        self._tails: array[float] | None = None  # sums from each bucket on; None: to be made

    @property
    def n(self) -> float:
        """Samples, the older ones counting less."""
        return self._sums()[0] / self._unit

    def learn(self, bucket: int) -> None:
        self._unit *= _MEMORY / (_MEMORY - 1)
        self._weights[bucket] += self._unit
        self._tails = None
        if self._unit > _LARGE:
            self._weights = array("d", [weight / self._unit for weight in self._weights])
            self._unit = 1.0

    def fill(self, weights: Sequence[float]) -> None:
        self._weights, self._unit, self._tails = array("d", weights), 1.0, None

    def samples(self) -> tuple[float, ...]:
        """By bucket, the newest counting 1: what `fill` takes."""
        return tuple(weight / self._unit for weight in self._weights)

    def survival(self, place: float) -> float:
        """Share of gaps that are longer; `place` as from `_place`. There must be samples."""
        tails = self._sums()
        bucket = int(place)
        share = tails[bucket]
        if bucket < _BUCKETS:
            share -= (place - bucket) * self._weights[bucket]
        return share / tails[0]

    def _sums(self) -> "array[float]":
        if self._tails is None:
            self._tails = array("d", accumulate(reversed(self._weights)))
            self._tails.reverse()
        return self._tails


class _Program:
    """What one program taught; the cause learned longest ago comes first."""

    __slots__ = ("causes", "kinds")

    def __init__(self) -> None:
        self.causes: OrderedDict[str, _Histogram] = OrderedDict()
        self.kinds: dict[GapKind, _Histogram] = {}


class GapModel:
    """Chances of return. Times are seconds; a cause is `human` or the name of the tool that runs."""

    __slots__ = ("_kinds", "_max_causes", "_max_keys", "_n_keys", "_priors", "_programs")

    def __init__(self, max_keys: int = 4096) -> None:
        if max_keys < 1:
            raise InvalidInput("max_keys", "must be at least 1")
        self._max_keys = max_keys
        self._max_causes = max(1, max_keys // 16)
        self._n_keys = 0
        self._programs: OrderedDict[str, _Program] = OrderedDict()
        self._kinds: dict[GapKind, _Histogram] = {}
        self._priors = {kind: _prior(kind) for kind in _PRIORS}

    def __len__(self) -> int:
        """Programs and causes that have a histogram of their own."""
        return self._n_keys

    def learn(self, program: str, cause: str, gap_s: float) -> None:
        """A session came back after `gap_s`."""
        self._learn(program, cause, int(_place(gap_s)))

    def learn_end(self, program: str, cause: str) -> None:
        """A session never came back."""
        self._learn(program, cause, _BUCKETS)

    def chance(self, program: str, cause: str, elapsed_s: float, within_s: float) -> float:
        """The chance that a session which has been away for `elapsed_s` is back `within_s` from now."""
        levels = self._levels(program, cause)
        away = _survival(levels, _place(elapsed_s))
        if away <= 0 or within_s <= 0:
            return 0.0
        still = _survival(levels, _place(max(elapsed_s, 0.0) + within_s))
        return min(1.0, max(0.0, 1 - still / away))

    def median(self, program: str, cause: str, elapsed_s: float = 0.0) -> float:
        """Seconds from now by which it is back as likely as not; inf: more likely it never comes back, or in over 6 h."""
        levels = self._levels(program, cause)
        half = _survival(levels, _place(elapsed_s)) / 2
        if half <= 0 or _survival(levels, _BUCKETS) > half:
            return math.inf
        low, high = int(_place(elapsed_s)), _BUCKETS  # the edges that the answer lies between
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _survival(levels, middle) > half else (low, middle)
        above, below = _survival(levels, low), _survival(levels, high)
        place = low + (above - half) / (above - below) if above > below else high
        return max(0.0, _FIRST_S * math.exp(place * _STEP) - max(elapsed_s, 0.0))

    def check(self) -> None:
        """Raises Bug where an invariant does not hold."""
        if self._n_keys != sum(len(one.causes) for one in self._programs.values()):
            raise Bug("causes are miscounted")
        if self._n_keys > self._max_keys or any(not one.causes for one in self._programs.values()):
            raise Bug("more causes than allowed, or a program without any")

    def _levels(self, program: str, cause: str) -> list[_Histogram]:
        """The histograms that a question is about, the most general first."""
        kind = _kind(cause)
        found = [self._priors[kind]]
        if kind in self._kinds:
            found.append(self._kinds[kind])
        known = self._programs.get(program[:MAX_ID_CHARS])
        if known is not None:
            if kind in known.kinds:
                found.append(known.kinds[kind])
            own = known.causes.get(cause[:MAX_ID_CHARS])
            if own is not None:
                found.append(own)
        return found

    def _learn(self, program: str, cause: str, bucket: int) -> None:
        kind = _kind(cause)
        known = self._known(program[:MAX_ID_CHARS])
        own = self._own(known, cause[:MAX_ID_CHARS])
        while self._n_keys > self._max_keys:
            self._forget()
        for levels in (self._kinds, known.kinds):
            levels.setdefault(kind, _Histogram()).learn(bucket)
        own.learn(bucket)

    def _known(self, program: str) -> _Program:
        known = self._programs.get(program)
        if known is None:
            known = self._programs[program] = _Program()
        self._programs.move_to_end(program)
        return known

    def _own(self, known: _Program, cause: str) -> _Histogram:
        own = known.causes.get(cause)
        if own is None:
            own = known.causes[cause] = _Histogram()
            self._n_keys += 1
            if len(known.causes) > self._max_causes:
                known.causes.popitem(last=False)
                self._n_keys -= 1
        known.causes.move_to_end(cause)
        return own

    def _forget(self) -> None:
        """One cause less: the oldest of the program that learned longest ago."""
        name, oldest = next(iter(self._programs.items()))
        oldest.causes.popitem(last=False)
        self._n_keys -= 1
        if not oldest.causes:
            del self._programs[name]


def _kind(cause: str) -> GapKind:
    return "human" if cause == HUMAN else "tool"


def _place(gap_s: float) -> float:
    """Where a gap lies among the buckets, 0 to `_BUCKETS`; what is no number is no wait."""
    if not gap_s > _FIRST_S:
        return 0.0
    return min(float(_BUCKETS), math.log(gap_s / _FIRST_S) / _STEP)


def _survival(levels: list[_Histogram], place: float) -> float:
    """Share of gaps that are longer, by the mixture of the levels."""
    share = levels[0].survival(place)
    for level in levels[1:]:
        n = level.n
        share = (n * level.survival(place) + PSEUDO * share) / (n + PSEUDO)
    return share


def _prior(kind: GapKind) -> _Histogram:
    """The log-normal as a histogram; what lies beyond the first or last bucket's outer edge is added to it."""
    median_s, spread, never = _PRIORS[kind]
    edges = [_FIRST_S * math.exp(i * _STEP) for i in range(_BUCKETS + 1)]
    below = [0.5 * (1 + math.erf(math.log(edge / median_s) / (spread * math.sqrt(2)))) for edge in edges]
    below[0] = 0.0
    shares = [(1 - never) * (high - low) for low, high in pairwise(below)]
    made = _Histogram()
    made.fill([*shares, 1 - sum(shares)])
    return made
