"""One question to a gRPC health service, for probes.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md and .../PROTOCOL-HTTP2.md. The two messages have
one field each (a name, a status), so that they are written and read by hand.
"""

import asyncio
import contextlib

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, StreamEnded, StreamReset
from h2.exceptions import H2Error

__all__ = ["grpc_health"]

_FRAME_HEADER = 5  # a flag for compression, then the length in four bytes
_SERVING = b"\x08\x01"  # field 1 (status), varint 1


async def grpc_health(host: str, port: int, service: str) -> bool:
    """Whether the service is SERVING. The caller limits the time.

    Raises:
        OSError: no connection.
    """
    reader, writer = await asyncio.open_connection(host, port)
    connection = H2Connection(H2Configuration(client_side=True))
    try:
        _ask(connection, f"{host}:{port}", service)
        writer.write(connection.data_to_send())
        return await _answer(connection, reader, writer) == _SERVING
    except H2Error:
        return False  # whoever listens speaks no HTTP/2
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _ask(connection: H2Connection, authority: str, service: str) -> None:
    name = service.encode()
    message = b"\x0a" + bytes([len(name)]) + name if name else b""
    connection.initiate_connection()
    headers = [
        (":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"), (":authority", authority),
        ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "kube-probe/1.36"),
    ]  # fmt: skip
    connection.send_headers(1, headers)
    connection.send_data(1, b"\x00" + len(message).to_bytes(4, "big") + message, end_stream=True)


async def _answer(
    connection: H2Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes:
    """The message of the answer; empty where there is none, as for an error."""
    received = b""
    while chunk := await reader.read(65536):
        for event in connection.receive_data(chunk):
            if isinstance(event, DataReceived):
                received += event.data or b""
            if isinstance(event, (StreamEnded, StreamReset, ConnectionTerminated)):
                return received[_FRAME_HEADER:]
        writer.write(connection.data_to_send())
    return b""
