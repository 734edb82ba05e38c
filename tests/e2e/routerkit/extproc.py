"""Envoy's side of external processing: calls to a scheduler as Envoy makes them, without an Envoy.

For loads that need neither engines nor bodies to go anywhere; what only Envoy does is tested with Envoy.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import grpc
from envoy.config.core.v3.base_pb2 import HeaderMap, HeaderValue
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3.external_processor_pb2_grpc import ExternalProcessorStub

from agentic_serving.render.envoy_first_token import FIRST_TOKEN_METHOD

__all__ = ["Answer", "EnvoySide", "Held"]

Answer = str  # `go`, `refuse` or `held`
_OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
]


class Held:
    """A call whose answer is waited for; its stream is open."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - grpc's classes are generic in what they carry
        self._stream = stream

    async def answer(self) -> Answer:
        """What comes in the end."""
        return _said(await self._stream.read())

    def leave(self) -> None:
        """The client is gone."""
        self._stream.cancel()


class EnvoySide:
    """One connection to a scheduler."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS)
        self._stub = ExternalProcessorStub(self._channel)
        self._first_token = self._channel.unary_unary(FIRST_TOKEN_METHOD)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def begin(self, call_id: str, headers: Mapping[str, str], body: bytes) -> tuple[Answer, Held]:
        """A POST of a turn, up to the first answer to its body."""
        stream = self._stub.Process()
        named = {
            ":method": "POST",
            ":path": "/v1/chat/completions",
            "content-type": "application/json",
            "x-request-id": call_id,
            **headers,
        }
        await stream.write(pb.ProcessingRequest(request_headers=pb.HttpHeaders(headers=_headers(named))))
        await stream.read()
        await stream.write(pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True)))
        return _said(await stream.read()), Held(stream)

    async def whole(self, call_id: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """A turn from its request to the end of its answer, a stream."""
        said, held = await self.begin(call_id, headers, body)
        if said == "held":
            said = await held.answer()
        if said == "go":
            await self._first_token(call_id.encode())
            await held._stream.done_writing()
        held.leave()
        return said


def _headers(named: Mapping[str, str]) -> HeaderMap:
    return HeaderMap(
        headers=[HeaderValue(key=name, raw_value=value.encode()) for name, value in named.items()]
    )


def _said(answer: Any) -> Answer:  # noqa: ANN401 - a message, or grpc's end of stream
    if not isinstance(answer, pb.ProcessingResponse):
        return "gone"
    if answer.HasField("override_message_timeout"):
        return "held"
    return "refuse" if answer.HasField("immediate_response") else "go"
