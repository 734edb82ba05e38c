"""A call's body as JSON, or nothing: whatever comes from outside, nothing raises.

How large a body gets is bounded by what Envoy buffers, how deep by orjson (1,024 levels), and how many pieces it may have is here:
a few MB of empty messages would take seconds in which no other call is answered.
"""

import json
from collections.abc import Iterator
from typing import Any

import orjson

from agentic_serving.router.words import Call

__all__ = ["parsed"]

#: Half of a pair that clients cut in two when they shorten text: JSON as engines read it, and not as orjson does.
_SURROGATES = (b"\\ud", b"\\uD")
#: Python's own reader takes ten times as long: of larger bodies, nobody waits for that.
_MOST_SLOWLY = 4 << 20
#: A million tokens in pieces of 120. Each costs 15 to 30 µs to read.
_MOST_PIECES = 8_192
#: Objects and lists, counted as the brackets in the text: 8 MiB of code have about as many in what people wrote.
_MOST_BRACKETS = 400_000
#: Where a body has its pieces, and where they have theirs.
_LISTS = ("messages", "input", "system", "tools")
_INNER = ("content", "tool_calls", "output", "summary")


def parsed(call: Call) -> dict[str, Any] | None:
    """The request; None where there is none to be read: cut off, compressed, in several parts, not JSON, no object, too many pieces."""
    encoding = call.headers.get("content-encoding", "identity").strip().lower()
    if not call.complete or not call.body or encoding not in ("", "identity"):
        return None
    if call.body.count(b"[") + call.body.count(b"{") > _MOST_BRACKETS:
        return None
    try:
        found = orjson.loads(call.body)
    except orjson.JSONDecodeError:
        found = _slowly(call.body)
    return found if isinstance(found, dict) and not _many(found) else None


def _slowly(body: bytes) -> object:
    if len(body) > _MOST_SLOWLY or not any(half in body for half in _SURROGATES):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _many(body: dict[str, Any]) -> bool:
    n = 0
    for size in _sizes(body):
        n += size
        if n > _MOST_PIECES:
            return True
    return False


def _sizes(body: dict[str, Any]) -> Iterator[int]:
    """Of lists of pieces, and of the lists in those, twice: a tool's result is in a message and has its own."""
    for outer in _lists(body, _LISTS):
        yield len(outer)
        for piece in outer:
            for inner in _lists(piece, _INNER):
                yield len(inner)
                for part in inner:
                    yield from map(len, _lists(part, _INNER))


def _lists(value: object, names: tuple[str, ...]) -> Iterator[list[Any]]:
    if isinstance(value, dict):
        for name in names:
            found = value.get(name)
            if isinstance(found, list):
                yield found
