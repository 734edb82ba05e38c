"""The body in a message of Envoy's external processing protocol, cut out of the bytes that came.

protobuf's own reader copies a body twice, into the message and out of it again: for 400 KB a fifth of what an external
processor that does nothing takes in all. Every other message is left to it, and every body that is not written as expected.
Source of the format: protobuf.dev/programming-guides/encoding; field numbers: envoy/service/ext_proc/v3/external_processor.proto.
"""

from collections.abc import Iterator
from typing import NamedTuple

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest

__all__ = ["Body", "body_of", "message_of"]

_REQUEST_BODY = 4  # in ProcessingRequest
_BODY, _END_OF_STREAM = 1, 2  # in HttpBody
_VARINT, _LENGTH = 0, 2
_MOST_VARINT_BYTES = 10


class Body(NamedTuple):
    """A request's body, or its first part: then `ended` is false."""

    body: bytes
    ended: bool


def message_of(message: bytes) -> ProcessingRequest | Body:
    """A message as it came.

    Raises:
        google.protobuf.message.DecodeError: it is none.
    """
    body = body_of(message)
    if body is not None:
        return body
    found: ProcessingRequest = ProcessingRequest.FromString(message)
    if found.WhichOneof("request") == "request_body":
        return Body(found.request_body.body, found.request_body.end_of_stream)
    return found


def body_of(message: bytes) -> Body | None:
    """The request body in a ProcessingRequest; None: it is another message, or protobuf should look at it."""
    try:
        found = [
            (start, end)
            for number, start, end in _fields(message, 0, len(message))
            if number == _REQUEST_BODY
        ]
        if len(found) != 1:
            return None
        body, ended = b"", False
        for number, start, end in _fields(message, *found[0]):
            if number == _BODY:
                body = message[start:end]
            elif number == _END_OF_STREAM:
                ended = message[start:end] != b"\0"
    except (IndexError, ValueError):
        return None
    return Body(body, ended)


def _fields(message: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Each field's number, and where its value begins and ends.

    Raises:
        IndexError: it ends within a number.
        ValueError: of another wire type, or longer than what it is in.
    """
    while at < stop:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, end = _varint(message, at)
        elif wire == _LENGTH:
            size, at = _varint(message, at)
            end = at + size
        else:
            raise ValueError(wire)
        if end > stop:
            raise ValueError(end)
        yield number, at, end
        at = end


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for i in range(_MOST_VARINT_BYTES):
        byte = message[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError(at)
