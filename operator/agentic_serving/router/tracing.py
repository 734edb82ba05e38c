"""Runs as traces: a span for each session, under it one for each turn, under it those of the sessions that it started.

A run's trace id is made from its name, so that its turns meet in one trace whichever scheduler or stack saw them. Where a
client sent its own trace context, the turn is a span of that trace, and linked to its session.

Attribute names are OpenTelemetry's for generative AI (gen_ai.*, in development), and agentic_serving.* for what it has no
name for. No prompt and no answer is in a span. Exporting is a thread's work: where it falls behind, spans are dropped.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status, StatusCode

from agentic_serving import __version__
from agentic_serving.router import words
from agentic_serving.router.config import Config
from agentic_serving.router.inflight import InFlight

__all__ = ["Tracing"]

_CLOSE_S = 2.0
_MAX_SESSIONS = 100_000
_MAX_STEPS = 8
_MAX_TEXT = 512  # characters
_OPERATIONS = {"completions": "text_completion"}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

Attributes = dict[str, str | int | float | bool]


@dataclass(slots=True)
class _Turn:
    came: words.Came
    at_s: float
    steps: list[tuple[float, words.Decided]] = field(default_factory=list)
    began: words.Began | None = None
    began_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Session:
    """A session that is not over: what its span will need."""

    came: words.Came
    at_s: float


class _Ids(RandomIdGenerator):
    """Random ids, but for the next span where somebody said which."""

    def __init__(self) -> None:
        self.next: SpanContext | None = None

    def generate_trace_id(self) -> int:
        return self.next.trace_id if self.next is not None else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.next.span_id if self.next is not None else super().generate_span_id()


class Tracing:
    """Hears notes and makes spans of them, each when it is over.

    Args:
        epoch_ns: the wall clock's time, as nanoseconds since 1970, at zero of the desk's clock.
    """

    def __init__(self, config: Config, exporter: SpanExporter, *, epoch_ns: int) -> None:
        self._config = config
        self._epoch_ns = epoch_ns
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=_resource(config), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("agentic_serving.router", __version__)
        self._turns: InFlight[_Turn] = InFlight()
        self._sessions: InFlight[_Session] = InFlight(_MAX_SESSIONS)
        self._propagator = TraceContextTextMapPropagator()
        self._hearing: dict[type, Callable[[Any, float], None]] = {
            words.Came: self._came,
            words.Decided: self._decided,
            words.Began: self._began,
            words.Done: self._done,
            words.Over: self._over,
        }

    def hear(self, note: words.Note, now_s: float) -> None:
        hear = self._hearing.get(type(note))
        if hear is not None:
            hear(note, now_s)

    def flush(self) -> None:
        """Send what there is. Blocks; for tests."""
        self._provider.force_flush()

    def close(self) -> None:
        thread = Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(_CLOSE_S)

    def _came(self, note: words.Came, now_s: float) -> None:
        self._turns.begin(note.call_id, _Turn(note, now_s))
        if self._sessions.get(note.session) is None:
            self._sessions.begin(note.session, _Session(note, now_s))

    def _decided(self, note: words.Decided, now_s: float) -> None:
        turn = self._turns.get(note.call_id)
        if turn is not None and len(turn.steps) < _MAX_STEPS:
            turn.steps.append((now_s, note))

    def _began(self, note: words.Began, now_s: float) -> None:
        turn = self._turns.get(note.call_id)
        if turn is not None and turn.began is None:
            turn.began, turn.began_s = note, now_s

    def _done(self, note: words.Done, now_s: float) -> None:
        turn = self._turns.end(note.call_id)
        if turn is None:
            return
        context, links = self._place(turn.came)
        came = turn.came
        operation = _OPERATIONS.get(came.api, "chat")
        span = self._tracer.start_span(
            f"{operation} {_text(came.model)}".strip(),
            context=context,
            kind=SpanKind.CLIENT,
            links=links,
            start_time=self._ns(turn.at_s),
            attributes={**self._told(turn), **_ended(note)},
        )
        for at_s, step in turn.steps:
            span.add_event(f"agentic_serving.{step.verdict.lower()}", _step(step), self._ns(at_s))
        if note.outcome == "Failed":
            span.set_status(Status(StatusCode.ERROR))
        span.end(self._ns(now_s))

    def _over(self, note: words.Over, now_s: float) -> None:
        """The session's own span: its turns, and its children, are below it."""
        session = self._sessions.end(note.session)
        if session is None:
            return
        came = session.came
        self._ids.next = self._context(note.run, note.session)
        try:
            span = self._tracer.start_span(
                f"invoke_agent {came.program}",
                context=self._below(note.run, came.parent) if came.parent else Context(),
                kind=SpanKind.INTERNAL,
                start_time=self._ns(session.at_s),
                attributes={
                    "gen_ai.operation.name": "invoke_agent",
                    **self._whose(came),
                    "agentic_serving.over": note.why,
                },
            )
        finally:
            self._ids.next = None
        span.end(self._ns(now_s))

    def _place(self, came: words.Came) -> tuple[Context, Sequence[Link]]:
        """Below the session, or below what the client said, then with a link to the session."""
        given = (
            self._propagator.extract({"traceparent": came.traceparent}, Context())
            if came.traceparent
            else None
        )
        if not given:
            return self._below(came.run, came.session), ()
        return given, (Link(self._context(came.run, came.session)),)

    def _below(self, run: str, session: str) -> Context:
        return set_span_in_context(NonRecordingSpan(self._context(run, session)), Context())

    def _context(self, run: str, session: str) -> SpanContext:
        """Ids from names: of the namespace, since runs cross stacks."""
        trace = _digest(self._config.namespace, run, size=16)
        span = _digest(self._config.namespace, run, session, size=8)
        return SpanContext(trace, span, is_remote=True, trace_flags=_SAMPLED)

    def _told(self, turn: _Turn) -> Attributes:
        came = turn.came
        found: Attributes = {
            "gen_ai.operation.name": _OPERATIONS.get(came.api, "chat"),
            "gen_ai.request.model": _text(came.model),
            **self._whose(came),
            "agentic_serving.client": came.client,
            "agentic_serving.api": came.api,
            "agentic_serving.turn": came.turn,
            "agentic_serving.kind": came.kind,
            "agentic_serving.confidence": came.confidence,
        }
        if came.divergence:
            found["agentic_serving.divergence"] = came.divergence
        if turn.began is not None:
            found["http.response.status_code"] = turn.began.status
            found["gen_ai.response.time_to_first_chunk"] = turn.began_s - turn.at_s
        for _, step in turn.steps:
            if step.verdict == "Hold":
                found["agentic_serving.hold.reason"] = step.reason
            else:
                found["agentic_serving.reason"] = step.reason
                found["agentic_serving.hold.seconds"] = step.held_s
        return found

    def _whose(self, came: words.Came) -> Attributes:
        found: Attributes = {
            "gen_ai.provider.name": self._config.engine.lower(),
            "gen_ai.conversation.id": came.session,
            "gen_ai.agent.name": came.program,
            "agentic_serving.program": came.program,
            "agentic_serving.run": came.run,
            "agentic_serving.session": came.session,
        }
        return found | ({"agentic_serving.parent": came.parent} if came.parent else {})

    def _ns(self, at_s: float) -> int:
        return self._epoch_ns + int(at_s * 1e9)


def _ended(note: words.Done) -> Attributes:
    found: Attributes = {"agentic_serving.outcome": note.outcome}
    if note.replica:
        found["agentic_serving.replica"] = note.replica
    if note.outcome == "Failed":
        found["error.type"] = "_OTHER"
    if note.outcome != "Answered":
        return found
    return found | {
        "gen_ai.usage.input_tokens": note.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": note.cached_tokens,
        "gen_ai.usage.output_tokens": note.output_tokens,
        "agentic_serving.usage.estimated": note.estimated,
        "agentic_serving.expected_cached_tokens": note.expected_cached_tokens,
        "agentic_serving.recomputed_tokens": sum(note.recomputed.values()),
    }


def _step(step: words.Decided) -> Attributes:
    found: Attributes = {
        "agentic_serving.reason": step.reason,
        "agentic_serving.uncached_tokens": step.uncached_tokens,
    }
    if step.replica:
        found["agentic_serving.replica"] = step.replica
    if step.because:
        found["agentic_serving.because"] = _text(step.because)
    return found


def _resource(config: Config) -> Resource:
    """What the environment says (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) wins."""
    ours = {
        "service.name": "agentic-serving-scheduler",
        "service.namespace": config.namespace,
        "k8s.namespace.name": config.namespace,
        "agentic_serving.stack": config.stack,
    }
    return Resource.create({**ours, **OTELResourceDetector().detect().attributes})


def _text(said: str) -> str:
    """What a client may have had a part in: bounded, and text that protobuf takes; half a character would lose the whole batch."""
    return said[:_MAX_TEXT].encode(errors="replace").decode()


def _digest(*names: str, size: int) -> int:
    """Never zero, which is no id."""
    text = "\0".join(names).encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=size).digest()) or 1
