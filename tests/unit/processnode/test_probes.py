"""processnode.probes: when answers count, and the question to a gRPC health service."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived

from tests.e2e.processnode.grpchealth import grpc_health
from tests.e2e.processnode.probes import ProbeSpec, Tally, ask, port_number

TALLIES = {
    "counts from the threshold": (1, 3, [False, False, False, False], [None, None, False, False]),
    "in a row": (1, 2, [False, True, False, False], [None, True, None, False]),
    "success may need several": (2, 1, [True, True, False, True], [None, True, False, None]),
}


@pytest.mark.parametrize("case", TALLIES)
def test_answers_count_in_a_row(case: str) -> None:
    success, failure, answers, verdicts = TALLIES[case]
    tally = Tally(success, failure)
    assert [tally.record(ok=ok) for ok in answers] == verdicts


def test_a_port_may_have_a_name() -> None:
    container = {"ports": [{"name": "web", "containerPort": 80}]}
    assert (port_number("web", container), port_number(81, container), port_number("82", container)) == (
        80,
        81,
        82,
    )
    with pytest.raises(ValueError, match="nobody"):
        port_number("nobody", container)


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A server on loopback that has ended with all its connections afterwards; its port."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            connections.add(task)
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])
    await asyncio.gather(*connections, return_exceptions=True)


@asynccontextmanager
async def health_service(answer: bytes | None) -> AsyncIterator[int]:
    """Answers every request with a HealthCheckResponse, or with an error without a message; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        while chunk := await reader.read(65536):
            for event in connection.receive_data(chunk):
                if isinstance(event, RequestReceived):
                    headers = [(":status", "200"), ("content-type", "application/grpc")]
                    connection.send_headers(event.stream_id, headers)
                    if answer is not None:
                        connection.send_data(event.stream_id, b"\0" + len(answer).to_bytes(4, "big") + answer)
                    status = "0" if answer is not None else "5"
                    connection.send_headers(event.stream_id, [("grpc-status", status)], end_stream=True)
            writer.write(connection.data_to_send())

    async with listening(serve) as port:
        yield port


# HealthCheckResponse.ServingStatus: 1 is SERVING, 2 NOT_SERVING; a service that is not known is an error.
@pytest.mark.parametrize(
    ("answer", "ok"), [(b"\x08\x01", True), (b"\x08\x02", False), (b"", False), (None, False)]
)
async def test_a_grpc_service_is_healthy_when_it_says_so(answer: bytes | None, *, ok: bool) -> None:
    async with health_service(answer) as port, asyncio.timeout(10):
        assert await grpc_health("127.0.0.1", port, "inference") is ok


async def test_no_answer_in_time_is_a_failure() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def run(argv: list[str], timeout_s: float) -> tuple[int, str]:
        raise AssertionError("no command is asked for")

    async with listening(silent) as port:
        spec = ProbeSpec.of({"httpGet": {"port": port}, "timeoutSeconds": 0.1})
        answer = await ask(spec, {}, "127.0.0.1", run)
    assert not answer.ok
    assert "no answer" in answer.message
