"""What is simulated: a fleet and how programs come to it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from random import Random

from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.replica import Replica
from agentic_serving.fleet.tiers import Tier
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation.scripts import Gaps, Script

__all__ = ["ClosedLoop", "Fleet", "Load", "OpenLoop", "Setup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Equal replicas.

    Attributes:
        tiers: makes the KV tiers of one replica; a tier that all share is made once, outside.
    """

    n_replicas: int
    limits: Limits
    profile: StepProfile
    tiers: Callable[[], Sequence[Tier]] = tuple

    def __post_init__(self) -> None:
        if self.n_replicas < 1:
            raise InvalidInput("n_replicas", "must be at least 1")

    @property
    def tokens(self) -> int:
        """What all caches hold."""
        return self.n_replicas * self.limits.usable_tokens

    def replicas(self) -> list[Replica]:
        return [Replica(self.limits, self.profile, tiers=self.tiers()) for _ in range(self.n_replicas)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """So many programs live at a time; when one ends the next starts.

    Attributes:
        repeat: begin again with the first when all have run; needs a horizon. Repetitions share no state.
        ramp_s: the first ones start evenly spread over this time.
    """

    live: int
    repeat: bool = False
    ramp_s: float = 0.0

    def __post_init__(self) -> None:
        if self.live < 1 or self.ramp_s < 0:
            raise InvalidInput("live", "must be at least 1, and ramp_s not negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Programs arrive whatever happens.

    Attributes:
        per_s: Poisson arrivals at this rate; None: at the recorded times.
        speed: recorded arrivals this many times as fast.
    """

    per_s: float | None = None
    speed: float = 1.0

    def __post_init__(self) -> None:
        if self.speed <= 0 or (self.per_s is not None and self.per_s <= 0):
            raise InvalidInput("per_s", "and speed must be positive")


Load = ClosedLoop | OpenLoop


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All of a simulation but its programs and its policy.

    Attributes:
        seed: of the order of programs and of random arrivals: equal seeds, equal workload under every policy.
        shuffle: closed loop and Poisson: programs in an order drawn by the seed, else as given.
        warmup_s: what arrived earlier is simulated, and left out of the records.
        announce_ends: policies are told when a program is over, as by a client that says so; else they must guess.
    """

    fleet: Fleet
    load: Load
    gaps: Gaps = field(default_factory=Gaps)
    seed: int = 0
    shuffle: bool = True
    horizon_s: float = inf
    warmup_s: float = 0.0
    announce_ends: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.load, ClosedLoop) and self.load.repeat and self.horizon_s == inf:
            raise InvalidInput("horizon_s", "is needed where programs repeat")

    def arrivals(self, scripts: Sequence[Script]) -> Iterator[tuple[float | None, Script, int]]:
        """(when, script, lap) in order; None: when another one has ended."""
        order = list(scripts)
        random = Random(self.seed)  # noqa: S311 - a workload, not a secret
        if self.shuffle and not self._recorded:
            random.shuffle(order)
        if isinstance(self.load, ClosedLoop):
            yield from self._closed(order, self.load)
        else:
            yield from self._open(order, self.load, random)

    @property
    def _recorded(self) -> bool:
        return isinstance(self.load, OpenLoop) and self.load.per_s is None

    @staticmethod
    def _closed(order: Sequence[Script], load: ClosedLoop) -> Iterator[tuple[float | None, Script, int]]:
        for lap in count():
            for at, script in enumerate(order):
                place = lap * len(order) + at
                yield (load.ramp_s * place / load.live if place < load.live else None), script, lap
            if not load.repeat or not order:
                return

    @staticmethod
    def _open(
        order: Sequence[Script], load: OpenLoop, random: Random
    ) -> Iterator[tuple[float | None, Script, int]]:
        if load.per_s is None:
            for script in sorted(order, key=lambda script: script.start_s):
                yield script.start_s / load.speed, script, 0
            return
        now_s = 0.0
        for script in order:
            now_s += random.expovariate(load.per_s)
            yield now_s, script, 0
