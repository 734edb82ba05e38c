"""The operator's own metrics. No label names an object, so the number of series does not grow with the cluster.

Names follow controller-runtime's where it has one (reconcile_total, workqueue_depth).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

__all__ = ["Metrics", "WatchedCondition"]

#: A reconcile at rest takes milliseconds, a first one some dozens of requests.
_RECONCILE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class WatchedCondition:
    """A condition of one object, without the object's name."""

    kind: str
    type: str
    status: str


class Metrics:
    """Counters and gauges on a registry of their own; gauges are read when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "agentic_serving_reconcile_total",
            "Reconciles by kind and result (ok, waiting, error).",
            ["kind", "result"],
            registry=self.registry,
        )
        self.reconcile_s = Histogram(
            "agentic_serving_reconcile_seconds",
            "Duration of one reconcile.",
            ["kind"],
            buckets=_RECONCILE_BUCKETS_S,
            registry=self.registry,
        )
        self.retries = Counter(
            "agentic_serving_workqueue_retries_total", "Keys put back with back-off.", registry=self.registry
        )
        self.requests = Counter(
            "agentic_serving_api_requests_total",
            "Requests to the API server by verb, kind and result.",
            ["verb", "kind", "code"],
            registry=self.registry,
        )
        self.request_s = Histogram(
            "agentic_serving_api_request_seconds",
            "Duration of one request to the API server.",
            ["verb"],
            buckets=_RECONCILE_BUCKETS_S,
            registry=self.registry,
        )
        self.watch_restarts = Counter(
            "agentic_serving_watch_restarts_total", "Restarts of all watch streams.", registry=self.registry
        )
        self.leader = Gauge("agentic_serving_leader", "1 on the replica that leads.", registry=self.registry)
        ProcessCollector(registry=self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read at every scrape."""
        gauge = Gauge(name, text, registry=self.registry)
        gauge.set_function(read)

    def watches(self, read: Callable[[], Mapping[str, float]]) -> None:
        """When the last event of each kind came, in seconds since 1970; read at every scrape."""
        self.registry.register(_Watches(read))

    def conditions(self, read: Callable[[], Iterable[WatchedCondition]]) -> None:
        """How many objects have which condition, counted at every scrape."""
        self.registry.register(_Conditions(read))

    def observe_request(self, *, verb: str, kind: str, result: str, seconds: float) -> None:
        """Told by the Kubernetes port after each request."""
        self.requests.labels(verb, kind, result).inc()
        self.request_s.labels(verb).observe(seconds)

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)


class _Watches(Collector):
    def __init__(self, read: Callable[[], Mapping[str, float]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "agentic_serving_watch_last_event_timestamp_seconds",
            "When the last watch event of a kind came.",
            labels=["kind"],
        )
        for kind, at in sorted(self._read().items()):
            family.add_metric([kind], at)
        yield family


class _Conditions(Collector):
    def __init__(self, read: Callable[[], Iterable[WatchedCondition]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts: dict[WatchedCondition, int] = {}
        for condition in self._read():
            counts[condition] = counts.get(condition, 0) + 1
        family = GaugeMetricFamily(
            "agentic_serving_condition",
            "Objects by kind, condition and status.",
            labels=["kind", "type", "status"],
        )
        for condition, count in sorted(counts.items(), key=lambda item: str(item[0])):
            family.add_metric([condition.kind, condition.type, condition.status], count)
        yield family
