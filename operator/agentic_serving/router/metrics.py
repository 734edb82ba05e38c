"""The program scheduler's metrics: a listener that counts what the desk did, and gauges that look at it when asked."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.process_collector import ProcessCollector

from agentic_serving.program.events import CacheNews
from agentic_serving.router import words
from agentic_serving.router.config import Config
from agentic_serving.router.families import FAMILIES, Family
from agentic_serving.router.gauges import State, objectives
from agentic_serving.router.inflight import InFlight
from agentic_serving.router.labels import APIS, CAUSES, CLIENTS, KINDS, PARTS, REASONS, Capped, known
from agentic_serving.router.views import Viewed

__all__ = ["Metrics"]


@dataclass(slots=True)
class _Call:
    """What of a call's first notes its last ones need."""

    program: str
    client: str
    kind: str
    came_s: float
    asked: str = ""  # the replica that we named
    hold: str = ""  # why it is held; empty: it is not
    held_s: float = 0.0  # since when
    began: bool = False


class Metrics:
    """Counters on a registry of their own.

    Attributes:
        registry: others of this process may add theirs.
    """

    def __init__(self, config: Config) -> None:
        self.registry = CollectorRegistry()
        self._program = Capped(p.route.name for p in config.programs)
        self._calls: InFlight[_Call] = InFlight()
        self._counters = {f.name: self._counter(f) for f in FAMILIES if f.type == "counter" and not f.read}
        self._histograms = {f.name: self._histogram(f) for f in FAMILIES if f.type == "histogram"}
        # The library's own way to a series takes 2 us, ten times a call; there are as many as series.
        self._children: dict[tuple[str, tuple[str, ...]], Counter] = {}
        self._observed: dict[tuple[str, tuple[str, ...]], Histogram] = {}
        self._state = State(self._program)
        self._hearing: dict[type, Callable[[Any, float], None]] = {
            words.Came: self._came,
            words.Decided: self._decided,
            words.Began: self._began,
            words.Done: self._done,
            words.TaskDone: self._task,
            words.Over: self._over,
            words.Closed: self._closed,
            words.WarmedUp: self._warmed,
        }
        self.registry.register(self._state)
        ProcessCollector(registry=self.registry)
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Another configuration holds from here. Series of objectives begin at zero, so that their first event counts."""
        self._state.programs = {p.route.name: p for p in config.programs}
        for program in config.programs:
            for objective in objectives(program):
                for result in ("met", "missed"):
                    self._inc(
                        "objective_results_total", self._program(program.route.name), objective, result, by=0
                    )

    def view(self, desk: Viewed, clock: Callable[[], float] = time.monotonic) -> None:
        """What gauges look at from here."""
        self._state.look = lambda: desk.live(clock())

    def state(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Counts of what is kept outside the process, read at every scrape: written, dropped, restored, reconnects; pending, lag_s."""
        self._state.stored = read

    def hear(self, note: words.Note, now_s: float) -> None:
        self._hearing[type(note)](note, now_s)

    def error(self, part: str) -> None:
        """Something of ours failed, and the call went on without it."""
        self._inc("errors_total", known(part, PARTS))

    def not_parsed(self) -> None:
        """A body went on unread, of which no note tells."""
        self._inc("bodies_not_parsed_total")

    def caches(self, news: Iterable[CacheNews], *, read: int, unreadable: int, others_tokens: int) -> None:
        """What engines told of their caches, and how many of the stored tokens were others'."""
        self._inc("kv_event_batches_total", "read", by=read)
        self._inc("kv_event_batches_total", "unreadable", by=unreadable)
        self._inc("kv_event_tokens_total", "others", by=others_tokens)
        for one in news:
            self._inc("kv_event_tokens_total", "stored", by=one.stored_tokens)
            self._inc("kv_event_tokens_total", "removed", by=one.removed_tokens)
            self._inc("kv_event_batches_total", "gap", by=one.gap)
            self._inc("kv_event_clears_total", by=one.cleared)

    def config_read(self, *, ok: bool) -> None:
        self._inc("config_reloads_total", "ok" if ok else "error")
        self._state.config_ok = ok

    def active(self, *, active: bool) -> None:
        self._state.active = active

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read at every scrape."""
        gauge = Gauge(name, text, registry=self.registry)
        gauge.set_function(read)

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(_Lean(self.registry))

    def _came(self, note: words.Came, now_s: float) -> None:
        client = known(note.client, CLIENTS)
        call = _Call(self._program(note.program), client, known(note.kind, KINDS), now_s)
        self._calls.begin(note.call_id, call)
        self._inc("calls_total", known(note.api, APIS), client)

    def _decided(self, note: words.Decided, now_s: float) -> None:
        reason = known(note.reason, REASONS)
        if note.reason == "NotParsed":
            self.not_parsed()
        call = self._calls.get(note.call_id)
        if call is None:  # it was not attributed
            return
        self._inc("decisions_total", call.program, note.verdict, reason)
        if note.verdict == "Hold":
            call.hold, call.held_s = reason, now_s
            return
        call.asked = note.replica
        if call.hold and note.reason != "Observing":
            self._see("hold_seconds", note.held_s, call.program, call.hold)
        call.hold = ""

    def _began(self, note: words.Began, now_s: float) -> None:
        call = self._calls.get(note.call_id)
        if call is None or call.began or not 200 <= note.status < 300:
            return
        call.began = True
        took_s = now_s - call.came_s
        self._see("turn_first_token_seconds", took_s, call.program, call.kind)
        program = self._state.programs.get(call.program)
        if program is not None and program.first_token_s is not None and call.kind == "tool":
            self._result(call.program, "first_token_after_tool", met=took_s <= program.first_token_s)

    def _done(self, note: words.Done, now_s: float) -> None:
        call = self._calls.end(note.call_id)
        if call is None:
            return
        self._inc("turns_total", call.program, call.client, call.kind, note.outcome)
        if call.hold:  # its client left while it waited
            self._see("hold_seconds", now_s - call.held_s, call.program, call.hold)
        if note.outcome != "Answered":
            return
        self._see("turn_seconds", now_s - call.came_s, call.program, call.kind)
        if note.replica:
            result = "picker" if not call.asked else "asked" if call.asked == note.replica else "elsewhere"
            self._inc("placements_total", result)
        self._tokens(call.program, note)

    def _tokens(self, program: str, note: words.Done) -> None:
        self._inc("prompt_tokens_total", program, by=note.prompt_tokens)
        self._inc("cached_tokens_total", program, by=note.cached_tokens)
        self._inc("output_tokens_total", program, by=note.output_tokens)
        for cause, tokens in note.recomputed.items():
            self._inc("recomputed_tokens_total", program, known(cause, CAUSES), by=tokens)
        if note.estimated:
            self._inc("usage_estimated_total", program)
            return
        self._inc("expected_cached_tokens_total", program, by=note.expected_cached_tokens)
        if note.prompt_tokens > 0:
            error = abs(note.expected_cached_tokens - note.cached_tokens) / note.prompt_tokens
            self._see("reuse_prediction_error_ratio", error, program)

    def _task(self, note: words.TaskDone, now_s: float) -> None:  # noqa: ARG002 (all of these are called alike)
        label = self._program(note.program)
        self._see("task_completion_seconds", note.took_s, label)
        self._inc("task_held_seconds_total", label, by=note.held_s)
        if note.alone_s > 0:
            self._see("task_slowdown_ratio", note.took_s / note.alone_s, label)
        self._completed(note.program, "Task", note.took_s)

    def _over(self, note: words.Over, now_s: float) -> None:  # noqa: ARG002 (as above)
        if note.session == note.run:
            self._see("run_completion_seconds", note.took_s, self._program(note.program))
            self._completed(note.program, "Run", note.took_s)

    def _closed(self, note: words.Closed, now_s: float) -> None:  # noqa: ARG002 (as above)
        self._see("gap_seconds", note.gap_s, self._program(note.program), note.kind)

    def _warmed(self, note: words.WarmedUp, now_s: float) -> None:  # noqa: ARG002 (as above)
        program = self._program(note.program)
        self._inc("warm_ups_total", program, note.outcome)
        self._inc("warm_up_tokens_total", program, by=note.computed_tokens)

    def _completed(self, name: str, unit: str, took_s: float) -> None:
        program = self._state.programs.get(name)
        if program is not None and program.completion_s is not None and program.unit == unit:
            self._result(self._program(name), "completion", met=took_s <= program.completion_s)

    def _result(self, program: str, objective: str, *, met: bool) -> None:
        self._inc("objective_results_total", program, objective, "met" if met else "missed")

    def _inc(self, name: str, *labels: str, by: float = 1) -> None:
        """Add; what would go down (a guess below zero) does not."""
        child = self._children.get((name, labels))
        if child is None:
            counter = self._counters[name]
            child = self._children[name, labels] = counter.labels(*labels) if labels else counter
        child.inc(max(by, 0))

    def _see(self, name: str, value: float, *labels: str) -> None:
        child = self._observed.get((name, labels))
        if child is None:
            child = self._observed[name, labels] = self._histograms[name].labels(*labels)
        child.observe(max(value, 0))

    def _counter(self, family: Family) -> Counter:
        return Counter(family.full_name, family.help, family.labels, registry=self.registry)

    def _histogram(self, family: Family) -> Histogram:
        name, text = family.full_name, family.help
        return Histogram(name, text, family.labels, buckets=family.buckets, registry=self.registry)


class _Lean(CollectorRegistry):
    """A registry without the times at which series were made: nobody asks for them, and counters would be two series each."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family
