"""The server over real gRPC, before a host that does as it is told: what Envoy hears, and what the host."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from agentic_serving.render.envoy_first_token import FIRST_TOKEN_METHOD
from agentic_serving.router.processor import MAX_BODY_BYTES
from agentic_serving.router.server import ACTIVE_SERVICE, Server, serve
from agentic_serving.router.words import Call, Declaration, Go, Pod, Refuse, Usage, Wait, Word

Answer = Callable[[Call, float], Sequence[Word]]
LONG_S = 600.0


def at_once(call: Call, now_s: float) -> Sequence[Word]:
    return [Go(call_id=call.id)]


def wait(call: Call, now_s: float) -> Sequence[Word]:
    return [Wait(call_id=call.id, until_s=now_s + LONG_S)]


def fail(call: Call, now_s: float) -> Sequence[Word]:
    raise RuntimeError("a bug")


@dataclass
class FakeHost:
    """Notes what it hears, and answers as it is told."""

    answer: Answer = at_once
    heard: list[tuple[str, str]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    wake_s: float | None = None
    later: Sequence[Word] = ()
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def arrive(self, call: Call, now_s: float) -> Sequence[Word]:
        self.calls.append(call)
        self._hear("arrive", call.id)
        return self.answer(call, now_s)

    def first_token(self, call_id: str, now_s: float) -> Sequence[Word]:
        return self._hear("first_token", call_id)

    def closed(self, call_id: str, now_s: float) -> Sequence[Word]:
        return self._hear("closed", call_id)

    def usage(self, usage: Usage, now_s: float) -> Sequence[Word]:
        return self._hear("usage", usage.call_id)

    def pods(self, pods: Sequence[Pod], now_s: float) -> Sequence[Word]:
        return ()

    def declare(self, declaration: Declaration, now_s: float) -> bool:
        return False

    def tick(self, now_s: float) -> Sequence[Word]:
        self.wake_s = None
        return self.later

    async def awaited(self, *events: tuple[str, str]) -> None:
        async with asyncio.timeout(5):
            while not set(events) <= set(self.heard):
                self.news.clear()
                await self.news.wait()

    def _hear(self, what: str, call_id: str) -> Sequence[Word]:
        self.heard.append((what, call_id))
        self.news.set()
        return ()


class Stream:
    """Envoy's side of one call."""

    def __init__(self, channel: grpc.aio.Channel, call_id: str = "c") -> None:
        self._call = ExternalProcessorStub(channel).Process()
        self._id = call_id

    async def headers(self, *, end: bool = False, **more: str) -> pb.ProcessingResponse:
        named = {":method": "POST", ":path": "/v1/messages", "x-request-id": self._id, **more}
        found = HeaderMap(
            headers=[HeaderValue(key=k.replace("_", "-"), raw_value=v.encode()) for k, v in named.items()]
        )
        return await self.say(
            pb.ProcessingRequest(request_headers=pb.HttpHeaders(headers=found, end_of_stream=end))
        )

    async def body(self, text: bytes = b"{}", *, end: bool = True) -> pb.ProcessingResponse:
        await self.headers()
        return await self.say(pb.ProcessingRequest(request_body=pb.HttpBody(body=text, end_of_stream=end)))

    async def say(self, request: pb.ProcessingRequest) -> pb.ProcessingResponse:
        await self._call.write(request)
        return await self.read()

    async def read(self) -> pb.ProcessingResponse:
        async with asyncio.timeout(5):
            found = await self._call.read()
        assert isinstance(found, pb.ProcessingResponse)
        return found

    async def end(self) -> None:
        await self._call.done_writing()
        assert await self._call.read() is grpc.aio.EOF

    def leave(self) -> None:
        self._call.cancel()


@dataclass
class Site:
    host: FakeHost
    server: Server
    channel: grpc.aio.Channel
    mishaps: list[str]

    def stream(self, call_id: str = "c") -> Stream:
        return Stream(self.channel, call_id)


@asynccontextmanager
async def serving(host: FakeHost, *, active: bool = True) -> AsyncIterator[Site]:
    mishaps: list[str] = []
    server = await serve(host, port=0, address="127.0.0.1", count_mishap=mishaps.append, active=active)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        yield Site(host, server, channel, mishaps)
    await server.stop()


async def test_a_call_from_its_headers_to_its_end() -> None:
    async with serving(FakeHost()) as site:
        stream = site.stream()
        assert (await stream.body(b'{"model": "m"}')).WhichOneof("response") == "request_body"
        await stream.end()
        await site.host.awaited(("closed", "c"))
        (call,) = site.host.calls
        assert (call.method, call.path, call.body, call.complete) == (
            "POST",
            "/v1/messages",
            b'{"model": "m"}',
            True,
        )
        assert site.host.heard == [("arrive", "c"), ("closed", "c")]


async def test_a_held_call_asks_for_time_once_and_goes_when_another_says_so() -> None:
    async with serving(FakeHost(answer=wait)) as site:
        held = site.stream("held")
        answer = await held.body()
        assert answer.override_message_timeout.seconds >= LONG_S
        assert site.server.delivery.held == 1
        site.host.answer = lambda call, _: [
            Go(call_id="held", endpoints=("10.0.0.1:8000",)),
            Go(call_id=call.id),
        ]
        assert (await site.stream("other").body()).HasField("request_body")
        released = await held.read()
        assert released.HasField("request_body")
        assert released.HasField("dynamic_metadata")
        assert site.server.delivery.held == 0


async def test_a_held_call_goes_when_the_hosts_time_has_come() -> None:
    async with serving(FakeHost(answer=wait, later=[Go(call_id="c")])) as site:
        site.host.wake_s = 0.0
        stream = site.stream()
        assert (await stream.body()).HasField("override_message_timeout")
        assert (await stream.read()).HasField("request_body")


async def test_a_call_that_the_host_forgets_goes_by_itself() -> None:
    def soon(call: Call, now_s: float) -> Sequence[Word]:
        return [Wait(call_id=call.id, until_s=now_s)]

    async with serving(FakeHost(answer=soon)) as site:
        stream = site.stream()
        assert (await stream.body()).HasField("override_message_timeout")
        assert (await stream.read()).HasField("request_body")
        assert site.mishaps == ["desk"]


async def test_a_refusal_answers_in_our_place() -> None:
    def refuse(call: Call, now_s: float) -> Sequence[Word]:
        return [Refuse(call_id=call.id, status=429, message="full", retry_after_s=3)]

    async with serving(FakeHost(answer=refuse)) as site:
        assert (await site.stream().body()).immediate_response.status.code == 429


@pytest.mark.parametrize("answer", [at_once, wait], ids=["running", "held"])
async def test_a_client_that_leaves_is_told_once(answer: Answer) -> None:
    async with serving(FakeHost(answer=answer)) as site:
        stream = site.stream()
        await stream.body()
        stream.leave()
        await site.host.awaited(("closed", "c"))
        site.server.deliver([Go(call_id="c")])  # too late: for nobody
    assert site.host.heard == [("arrive", "c"), ("closed", "c")]


async def test_a_request_that_ends_before_its_body_was_no_call() -> None:
    async with serving(FakeHost()) as site:
        half = site.stream("half")
        await half.headers()
        half.leave()
        whole = site.stream("whole")
        await whole.body()
        await whole.end()
        await site.host.awaited(("closed", "whole"))
    assert {call_id for _, call_id in site.host.heard} == {"whole"}


async def test_a_bug_of_the_host_lets_the_call_go() -> None:
    async with serving(FakeHost(answer=fail)) as site:
        stream = site.stream()
        assert (await stream.body()).HasField("request_body")
        await stream.end()
        await site.host.awaited(("closed", "c"))
        assert site.mishaps == ["desk"]


async def test_a_host_that_says_nothing_lets_the_call_go() -> None:
    async with serving(FakeHost(answer=lambda *_: ())) as site:
        assert (await site.stream().body()).HasField("request_body")


@pytest.mark.parametrize("call_id", ["", "c"], ids=["none", "in-use"])
async def test_a_call_that_cannot_be_told_apart_goes_unseen(call_id: str) -> None:
    async with serving(FakeHost()) as site:
        first = site.stream("c")
        await first.body()
        second = site.stream(call_id)
        assert (await second.body()).HasField("request_body")
        await second.end()
        await first.end()
        await site.host.awaited(("closed", "c"))
    assert site.host.heard == [("arrive", "c"), ("closed", "c")]


async def test_a_body_that_is_too_long_is_not_asked_for() -> None:
    async with serving(FakeHost()) as site:
        stream = site.stream()
        answer = await stream.headers(content_length=str(MAX_BODY_BYTES + 1))
        assert (answer.HasField("request_headers"), answer.HasField("mode_override")) == (True, True)
        (call,) = site.host.calls
        assert (call.body, call.complete) == (b"", False)


async def test_a_body_that_turns_out_too_long_is_not_complete() -> None:
    async with serving(FakeHost()) as site:
        await site.stream().body(b" " * (MAX_BODY_BYTES + 1))
        assert not site.host.calls[0].complete


@pytest.mark.parametrize("length", ["-1", "many", "", "\xb2"])
async def test_a_length_that_is_none_is_no_length(length: str) -> None:
    async with serving(FakeHost()) as site:
        answer = await site.stream().headers(content_length=length)
        assert answer.HasField("request_headers")
        assert site.host.calls == []


async def test_first_tokens_are_told_of_calls_that_run() -> None:
    async with serving(FakeHost()) as site:
        tell = site.channel.unary_unary(FIRST_TOKEN_METHOD)
        await tell(b"nobody")
        await site.stream().body()
        await tell(b"c")
        assert site.host.heard == [("arrive", "c"), ("first_token", "c")]


async def test_health_says_who_is_active_and_a_standby_holds_nobody() -> None:
    async with serving(FakeHost(answer=wait), active=False) as site:
        health = HealthStub(site.channel)

        async def state() -> int:
            return int((await health.Check(HealthCheckRequest(service=ACTIVE_SERVICE))).status)

        assert await state() == HealthCheckResponse.NOT_SERVING
        await site.server.set_active(True)
        assert await state() == HealthCheckResponse.SERVING
        held = site.stream()
        await held.body()
        await site.server.set_active(False)
        assert (await held.read()).HasField("request_body")


async def test_the_end_of_the_server_lets_held_calls_go() -> None:
    async with serving(FakeHost(answer=wait)) as site:
        held = site.stream()
        await held.body()
        stopping = asyncio.create_task(site.server.stop())
        assert (await held.read()).HasField("request_body")
        await held.end()
        await stopping
