"""The scheduler's gauges: read when somebody asks, so that what is gone has no series."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agentic_serving.router.config import Program
from agentic_serving.router.families import BY_NAME, FAMILIES
from agentic_serving.router.labels import Capped
from agentic_serving.router.views import NOTHING, Live

__all__ = ["State", "objectives"]

#: Pods of one stack that get series of their own.
_MAX_REPLICAS = 512
#: What happens to records of the state that outlives the process.
_STORED = ("written", "dropped", "restored", "reconnects")


class State(Collector):
    """See the module. Attributes are set by `Metrics`.

    Attributes:
        programs: with their objectives.
        look: at the desk.
        stored: what became of the records of the state.
    """

    def __init__(self, program: Capped) -> None:
        self._program = program
        self.programs: dict[str, Program] = {}
        self.look: Callable[[], Live] = lambda: NOTHING
        self.stored: Callable[[], Mapping[str, float]] = dict
        self.active = False
        self.config_ok = True

    def describe(self) -> Iterator[Metric]:
        """Names only: registering must not look at a desk that is not there yet."""
        return (_gauge(f.name) for f in FAMILIES if f.type == "gauge")

    def collect(self) -> Iterator[Metric]:
        live = self.look()
        yield _gauge("active", float(self.active))
        yield _gauge("config_last_reload_successful", float(self.config_ok))
        yield _gauge("runs", live.runs)
        yield _gauge("sessions", live.sessions)
        yield _gauge("in_flight_turns", live.in_flight)
        yield _gauge("held_turns", live.held)
        yield _gauge("held_bytes", live.held_bytes)
        yield from self._replicas(live)
        yield from self._objectives()
        yield from self._stored()

    def _replicas(self, live: Live) -> Iterator[GaugeMetricFamily]:
        capacity, held = _gauge("replica_capacity_tokens"), _gauge("replica_held_tokens")
        needed, residents = _gauge("replica_needed_tokens"), _gauge("replica_residents")
        for replica in live.replicas[:_MAX_REPLICAS]:
            if replica.capacity_tokens is not None:
                capacity.add_metric([replica.name], replica.capacity_tokens)
            held.add_metric([replica.name], replica.held_tokens)
            needed.add_metric([replica.name], replica.needed_tokens)
            residents.add_metric([replica.name], replica.residents)
        yield from (capacity, held, needed, residents)

    def _stored(self) -> Iterator[Metric]:
        stored, family = self.stored(), BY_NAME["state_records_total"]
        records = CounterMetricFamily(family.full_name, family.help, labels=family.labels)
        for event in _STORED:
            records.add_metric([event], stored.get(event, 0.0))
        yield records
        yield _gauge("state_pending_records", stored.get("pending", 0.0))
        yield _gauge("state_lag_seconds", stored.get("lag_s", 0.0))
        yield _gauge("state_healthy", stored.get("healthy", 1.0))

    def _objectives(self) -> Iterator[GaugeMetricFamily]:
        ratio, seconds = _gauge("objective_ratio"), _gauge("objective_seconds")
        for name, program in self.programs.items():
            if self._program(name) != name:
                continue  # past the cap: several programs share one label
            for objective, (target_s, percent) in objectives(program).items():
                ratio.add_metric([name, objective], percent / 100)
                seconds.add_metric([name, objective], target_s)
        yield from (ratio, seconds)


def objectives(program: Program) -> dict[str, tuple[float, float]]:
    """What a program asks for: seconds, and in how many percent of the cases."""
    found: dict[str, tuple[float, float]] = {}
    if program.completion_s is not None:
        found["completion"] = program.completion_s, program.completion_percent
    if program.first_token_s is not None:
        found["first_token_after_tool"] = program.first_token_s, program.first_token_percent
    return found


def _gauge(name: str, value: float | None = None) -> GaugeMetricFamily:
    family = BY_NAME[name]
    labels = list(family.labels) if value is None else None
    return GaugeMetricFamily(family.full_name, family.help, value=value, labels=labels)
