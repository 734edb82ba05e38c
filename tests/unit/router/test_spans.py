"""router.spans: a run is one trace, names are OpenTelemetry's, and a collector over real HTTP gets them."""

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

from agentic_serving.router.spans import spans_from_env
from agentic_serving.router.tracing import Tracing
from tests.unit.router.story import CONFIG, Story, Turn

ROOT = "review/r1"
GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def spans(*turns: Turn, over: Sequence[str] = ()) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    tracing = Tracing(CONFIG, exporter, epoch_ns=0)
    story = Story([tracing])
    for turn in turns:
        story.turn(turn)
    for session in over:
        story.over(ROOT, 1.0, session=session)
    tracing.flush()
    found = list(exporter.get_finished_spans())
    tracing.close()
    return found


def named(found: Sequence[ReadableSpan], session: str, operation: str) -> ReadableSpan:
    (one,) = (
        s
        for s in found
        if s.attributes
        and s.attributes["agentic_serving.session"] == session
        and s.attributes["gen_ai.operation.name"] == operation
    )
    return one


def parent_of(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent is not None else None


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def test_a_run_is_one_trace_as_its_sessions_are_a_tree() -> None:
    child = Turn(session="review/r1/a", parent=ROOT)
    found = spans(Turn(), child, over=["review/r1/a", ROOT])
    assert len({s.context.trace_id for s in found if s.context}) == 1
    root, agent = named(found, ROOT, "invoke_agent"), named(found, "review/r1/a", "invoke_agent")
    assert parent_of(root) is None
    assert parent_of(agent) == id_of(root)
    assert parent_of(named(found, ROOT, "chat")) == id_of(root)
    assert parent_of(named(found, "review/r1/a", "chat")) == id_of(agent)


def test_another_run_is_another_trace_and_the_same_run_is_the_same_for_another_process() -> None:
    one, other, again = spans(Turn())[0], spans(Turn(run="review/r2"))[0], spans(Turn())[0]
    assert one.context is not None
    assert other.context is not None
    assert again.context is not None
    assert one.context.trace_id == again.context.trace_id != other.context.trace_id


def test_a_clients_own_trace_is_gone_on_with_and_linked_to_the_session() -> None:
    found = spans(Turn(traceparent=GIVEN), over=[ROOT])
    turn, session = named(found, ROOT, "chat"), named(found, ROOT, "invoke_agent")
    assert turn.context is not None
    assert f"{turn.context.trace_id:032x}" == GIVEN.split("-")[1]
    assert f"{parent_of(turn):016x}" == GIVEN.split("-")[2]
    assert [link.context.span_id for link in turn.links] == [id_of(session)]


def test_a_client_that_does_not_sample_gets_no_span() -> None:
    assert spans(Turn(traceparent=GIVEN[:-2] + "00")) == []


@pytest.mark.parametrize("text", ["", "x", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "\ud800", "00-é"])
def test_what_is_no_trace_context_is_ignored(text: str) -> None:
    (turn,) = spans(Turn(traceparent=text))
    assert not turn.links


def test_a_turn_tells_its_times_its_tokens_and_why() -> None:
    turn = Turn(
        hold_s=3, because="chat-0 is full", recomputed={"Evicted": 70}, kind="tool", api="completions"
    )
    (span,) = spans(turn)
    assert span.name == "text_completion glm-5"
    assert (span.start_time, span.end_time) == (1000 * 10**9, 1006 * 10**9)
    assert span.attributes is not None
    expected = {
        "gen_ai.request.model": "glm-5",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 800,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.conversation.id": ROOT,
        "gen_ai.agent.name": "review",
        "gen_ai.response.time_to_first_chunk": 4.0,
        "agentic_serving.run": ROOT,
        "agentic_serving.hold.reason": "WaitsForRoom",
        "agentic_serving.hold.seconds": 3.0,
        "agentic_serving.reason": "PrefixIsThere",
        "agentic_serving.recomputed_tokens": 70,
    }
    assert {name: span.attributes.get(name) for name in expected} == expected
    assert [(e.name, e.timestamp) for e in span.events] == [
        ("agentic_serving.hold", 1000 * 10**9),
        ("agentic_serving.admit", 1003 * 10**9),
    ]
    assert (span.events[0].attributes or {})["agentic_serving.because"] == "chat-0 is full"


def test_a_failed_turn_is_an_error_and_one_whose_client_left_is_not() -> None:
    failed, left = spans(Turn(outcome="Failed"), Turn(outcome="ClientLeft", n=2))
    assert failed.status.status_code.name == "ERROR"
    assert left.status.status_code.name == "UNSET"


def test_names_are_of_the_conventions_that_are_installed() -> None:
    found = spans(Turn(hold_s=1), Turn(outcome="Failed", n=2), over=[ROOT])
    used = {name for s in found for name in s.attributes or {} if name.startswith("gen_ai.")}
    known = {v for k, v in vars(gen_ai_attributes).items() if k.startswith("GEN_AI_") and isinstance(v, str)}
    assert used
    assert used <= known


class _Collector(BaseHTTPRequestHandler):
    got: list[ExportTraceServiceRequest]

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.got.append(request)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it)
        """Nothing on stderr."""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    got: list[ExportTraceServiceRequest] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Collector", (_Collector,), {"got": got}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_collector_gets_them_when_the_listener_is_closed(
    collector: tuple[str, list[ExportTraceServiceRequest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, got = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=mine")
    found = spans_from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": url}, CONFIG)
    assert found is not None
    Story([found]).turn(Turn(because="half a character: \ud800"))
    found.close()
    resource = {a.key: a.value.string_value for a in got[0].resource_spans[0].resource.attributes}
    assert resource["service.name"] == "mine"
    assert resource["agentic_serving.stack"] == "chat"
    assert [s.name for s in got[0].resource_spans[0].scope_spans[0].spans] == ["chat glm-5"]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nobody_asked_for_spans(environ: dict[str, str]) -> None:
    assert spans_from_env(environ, CONFIG) is None
