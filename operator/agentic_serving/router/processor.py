"""Envoy's external processor: one gRPC stream is one call, from its request's headers to the end of its answer.

What Envoy sends: request headers; the body, if there is one, as far as it fits Envoy's buffer; the answer's trailers.
Then it ends the stream; it cancels it where the client or the engine is gone. Each message is answered once.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from agentic_serving.router import codec
from agentic_serving.router.delivery import Delivery
from agentic_serving.router.wire import Body
from agentic_serving.router.words import Go, Refuse, Wait

__all__ = ["Message", "Processor"]

#: The host lets a held call go by itself; if it forgets, we do, and Envoy only after us.
FORGOTTEN_S = 1.0
ENVOY_LATER_S = 2.0

#: A longer body is not read: it is not even sent to us where its length is known in time. A prompt of 1,000,000 tokens,
#: the longest context of served models, is about 5 MB of JSON.
MAX_BODY_BYTES = 8 * 1024 * 1024

Message: TypeAlias = pb.ProcessingRequest | Body
Context = grpc.aio.ServicerContext[Message, bytes]


@dataclass(slots=True)
class _Stream:
    """What is known of one call. Its headers are dropped once the host has seen them."""

    headers: dict[str, str] = field(default_factory=dict)
    path: str = ""
    call_id: str = ""  # empty until the host knows the call


@dataclass(frozen=True, slots=True)
class Processor:
    """The service `envoy.service.ext_proc.v3.ExternalProcessor`."""

    delivery: Delivery

    async def process(self, _requests: object, context: Context) -> None:
        """One call. However its stream ends, the host hears of the end once."""
        stream = _Stream()
        try:
            while isinstance(request := await context.read(), Message):
                answer = self._answer(stream, request)
                del request  # it holds the body, which must not stay while the call is held
                if isinstance(answer, _Held):
                    answer = await self._hold(stream, answer, context)
                if answer:
                    await context.write(answer)
        except Exception as error:  # noqa: BLE001 - Envoy goes on without us when the stream ends
            self.delivery.mishaps.add("processor", error)
        finally:
            if stream.call_id:
                self.delivery.closed(stream.call_id)

    def _answer(self, stream: _Stream, request: Message) -> "bytes | _Held":
        if isinstance(request, Body):
            whole = request.ended and len(request.body) <= MAX_BODY_BYTES
            return self._arrive(stream, request.body, codec.Shown(with_body=True, complete=whole))
        match request.WhichOneof("request"):
            case "request_headers":
                stream.headers = codec.header_map(request.request_headers.headers.headers)
                return self._headers(stream, ended=request.request_headers.end_of_stream)
            case "response_trailers":
                return codec.CONTINUE_TRAILERS
            case _:  # Envoy was not asked for anything else
                return b""

    def _headers(self, stream: _Stream, *, ended: bool) -> "bytes | _Held":
        if ended:
            return self._arrive(stream, b"", codec.Shown(with_body=False))
        length = stream.headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BODY_BYTES:
            return self._arrive(stream, b"", codec.Shown(with_body=False, complete=False, more=True))
        return codec.CONTINUE_HEADERS  # the body comes next

    def _arrive(self, stream: _Stream, body: bytes, shown: codec.Shown) -> "bytes | _Held":
        call = codec.call_of(stream.headers, body, complete=shown.complete)
        stream.headers, stream.path = {}, call.path
        word = self.delivery.arrive(call)
        if word is not None:
            stream.call_id = call.id
        if isinstance(word, Wait):
            return _Held(shown=shown, until_s=word.until_s)
        return _encoded(word or Go(call_id=call.id), shown, call.path)

    async def _hold(self, stream: _Stream, held: "_Held", context: Context) -> bytes:
        longest_s = codec.LONGEST_OVERRIDE_S - ENVOY_LATER_S
        within_s = min(longest_s, max(0.0, held.until_s - self.delivery.clock()) + FORGOTTEN_S)
        await context.write(codec.hold(within_s + ENVOY_LATER_S))
        word = await self.delivery.verdict(stream.call_id, within_s)
        return _encoded(word, held.shown, stream.path)


@dataclass(frozen=True, slots=True)
class _Held:
    """A call whose second word is waited for."""

    shown: codec.Shown
    until_s: float


def _encoded(word: Go | Refuse, shown: codec.Shown, path: str) -> bytes:
    if isinstance(word, Refuse):
        return codec.refuse(word, path)
    return codec.go(word, shown)
