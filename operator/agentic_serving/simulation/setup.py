"""What is simulated: a fleet, how programs come to it, and what goes wrong."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from random import Random
from typing import Literal

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.fleets import Fleet, PrefillPool, Stacks
from agentic_serving.simulation.hints import Hints
from agentic_serving.simulation.scripts import Gaps, Script

__all__ = [
    "ClosedLoop",
    "Failure",
    "Fleet",
    "Hints",
    "Load",
    "OpenLoop",
    "PrefillPool",
    "Seat",
    "Setup",
    "Stacks",
]


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
class Failure:
    """A replica dies with its cache and all its turns, and is there again, empty, `down_s` later.

    Routers know both at once, as from refused connections and the pod's readiness. A replica's failures must not
    overlap.
    """

    replica: int
    at_s: float
    down_s: float
    role: Literal["decode", "prefill"] = "decode"  # decode: those that also prefill where nothing is apart
    stack: str = ""

    def __post_init__(self) -> None:
        if self.replica < 0 or self.at_s < 0 or self.down_s <= 0:
            raise InvalidInput("failure", "replica and at_s must not be negative, down_s must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A router that needs a policy: number `router` of a stack, before this fleet."""

    stack: str
    router: int
    fleet: Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All of a simulation but its programs and its policy.

    Attributes:
        seed: of the order of programs and of random arrivals: equal seeds, equal workload under every policy.
        shuffle: closed loop and Poisson: programs in an order drawn by the seed, else as given.
        warmup_s: what arrived earlier is simulated, and left out of the records.
        announce_ends: policies are told when a program is over, as by a client that says so; else they must guess.
        routers: of every stack. Programs go to them in turn, as connections do through a Service; each has a policy
            that knows its own turns only, while gauges are the engines' own.
        scrape_s: gauges are those of the last multiple of this; 0: current.
        retry_s: after this time a client tries again what has failed (`max_retries` of the SDKs waits 0.5 to 8 s).
        client_timeout_s: a client gives up a call that has brought no token for so long and tries again, twice (the
            OpenAI and Anthropic SDKs: 600 s); then it gives up the whole program.
        stacks: further ones, and whose agents use them.
        hints: what clients declare of the future; None: nothing.
    """

    fleet: Fleet
    load: Load
    gaps: Gaps = field(default_factory=Gaps)
    seed: int = 0
    shuffle: bool = True
    horizon_s: float = inf
    warmup_s: float = 0.0
    announce_ends: bool = True
    routers: int = 1
    scrape_s: float = 0.0
    failures: tuple[Failure, ...] = ()
    retry_s: float = 1.0
    client_timeout_s: float = inf
    stacks: Stacks = field(default_factory=Stacks)
    hints: Hints | None = None

    def __post_init__(self) -> None:
        if isinstance(self.load, ClosedLoop) and self.load.repeat and self.horizon_s == inf:
            raise InvalidInput("horizon_s", "is needed where programs repeat")
        if self.routers < 1:
            raise InvalidInput("routers", "must be at least 1")
        if self.scrape_s < 0 or self.retry_s < 0 or self.client_timeout_s <= 0:
            raise InvalidInput(
                "scrape_s", "and retry_s must not be negative, client_timeout_s must be positive"
            )
        for number, one in enumerate(self.failures):
            fleet = self.fleets.get(one.stack)
            if fleet is None or one.replica >= _n_replicas(fleet, one.role):
                raise InvalidInput(f"failures[{number}]", "there is no such replica")
        self._check_apart()

    @property
    def fleets(self) -> Mapping[str, Fleet]:
        """Of all stacks, by name; "" is the setup's own."""
        return {"": self.fleet, **self.stacks.fleets}

    def seats(self) -> tuple[Seat, ...]:
        """Every router that needs a policy."""
        return tuple(
            Seat(stack=name, router=number, fleet=fleet)
            for name, fleet in self.fleets.items()
            for number in range(self.routers)
        )

    def _check_apart(self) -> None:
        """A replica that is down does not fail again."""
        up_s: dict[tuple[str, str, int], float] = {}
        for one in sorted(self.failures, key=lambda failure: failure.at_s):
            place = (one.stack, one.role, one.replica)
            if one.at_s < up_s.get(place, 0.0):
                raise InvalidInput("failures", f"replica {one.replica} fails while it is down")
            up_s[place] = one.at_s + one.down_s

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


def _n_replicas(fleet: Fleet, role: Literal["decode", "prefill"]) -> int:
    if role == "decode":
        return fleet.n_replicas
    return fleet.prefill.n_replicas if fleet.prefill else 0
