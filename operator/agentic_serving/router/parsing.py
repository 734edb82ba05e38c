"""A call's body as JSON, or nothing: whatever comes from outside, nothing raises.

Of lists of messages and tools only the outline is read here, and each member when somebody looks at it: a session's next body
repeats all but the last few. How large a body gets is bounded by what Envoy buffers, how deep by orjson (1,024 levels), and how
many pieces are read one by one is here: a few MB of empty messages would take seconds in which no other call is answered.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import orjson

from agentic_serving.program.entries import Entries, is_list
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
#: Where a body has its pieces, and where they have theirs. Those of the lazy lists are read when they are looked at.
_LISTS = ("messages", "input", "system", "tools")
_LAZY = ("messages", "input", "tools")
_INNER = ("content", "tool_calls", "output", "summary")

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(list[msgspec.Raw])


def parsed(call: Call) -> dict[str, Any] | None:
    """The request; None where there is none to be read: cut off, compressed, in several parts, not JSON, no object, too many pieces."""
    encoding = call.headers.get("content-encoding", "identity").strip().lower()
    if not call.complete or not call.body or encoding not in ("", "identity") or _overgrown(call.body):
        return None
    found = _outline(call.body) or _loads(call.body)
    if not isinstance(found, dict) or sum(map(len, _lists(found, _LISTS))) > _MOST_PIECES:
        return None
    return found


def _overgrown(body: bytes) -> bool:
    """Whatever opens must close: a shorter body cannot have so many, and counting takes as long as reading."""
    return len(body) > 2 * _MOST_BRACKETS and body.count(b"[") + body.count(b"{") > _MOST_BRACKETS


def _outline(body: bytes) -> dict[str, Any] | None:
    """Nothing, where the outline alone cannot be read; where a member cannot be, that member is None."""
    members = _Members()
    try:
        return {name: members.field(name, raw) for name, raw in _FIELDS.decode(body).items()}
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


class _Members:
    """Reads the members of one body's lists.

    Of a body with more pieces than are read one by one, the rest is taken message by message as it is written.
    """

    __slots__ = ("_room",)

    def __init__(self) -> None:
        self._room = _MOST_PIECES

    def field(self, name: str, raw: msgspec.Raw) -> object:
        written = memoryview(raw)
        if name not in _LAZY or written[0] != ord("["):
            return orjson.loads(written)
        return Entries([memoryview(one) for one in _MEMBERS.decode(raw)], self._member)

    def _member(self, written: bytes) -> object:
        found = _loads(written)
        if not isinstance(found, dict):
            return found
        self._room -= sum(_sizes(found))
        if self._room >= 0:
            return found
        return {"role": found.get("role"), "content": written.decode("utf-8", "replace")}


def _loads(written: bytes) -> object:
    try:
        return orjson.loads(written)
    except orjson.JSONDecodeError:
        return _slowly(written)


def _slowly(written: bytes) -> object:
    if len(written) > _MOST_SLOWLY or not any(half in written for half in _SURROGATES):
        return None
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return None


def _sizes(piece: dict[str, Any]) -> Iterator[int]:
    """Of the lists in a piece, twice: a tool's result is in a message and has its own."""
    for inner in _lists(piece, _INNER):
        yield len(inner)
        for part in inner:
            yield from map(len, _lists(part, _INNER))


def _lists(value: object, names: tuple[str, ...]) -> Iterator[Sequence[Any]]:
    if isinstance(value, dict):
        for name in names:
            found = value.get(name)
            if is_list(found):
                yield found
