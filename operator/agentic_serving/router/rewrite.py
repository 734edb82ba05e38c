"""Engine hints in a request's body, for engines that really carry them out. Pure.

A body is changed only where the engine that was rendered obeys the field; else it stays, byte for byte. A field is put
behind the first brace without writing the rest anew, which may be hundreds of KB and hold numbers and spellings that a second writing
would change.

vLLM: `priority`, lower first. Any other number than 0 is an error unless the engine runs with
`--scheduling-policy priority`; that is the user's choice (spec.engine.args), as such an engine also preempts, which costs
recompute. Source: vLLM 0.32 and 0.33, engine/protocol.py and v1/core/sched.
"""

import re
from collections.abc import Mapping

import msgspec
import orjson

__all__ = ["engine_priority", "insert_int", "one_token"]

#: JSON's white space before the object, and within it before its first name.
_OPENING = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*(\}?)")
#: vLLM takes 64 bits; AgentPrograms' priorities are 32 bits wide.
_MOST = 2**31 - 1


def engine_priority(program_priority: int, *, overdue: bool = False) -> int:
    """vLLM's number for a program's: the other way round. What waited out its hold goes before its equals.

    Doubled, so that one half step fits between two priorities.
    """
    return max(-_MOST, min(_MOST, -2 * program_priority - overdue))


def insert_int(body: bytes, name: str, value: int) -> bytes | None:
    """The body with one more field; None where it must stay: it is no object, or its client has said the same field.

    A field that is there in another spelling (`\\u0070riority`) is not seen, and wins, as of two equal names the last one does.
    """
    opening = _OPENING.match(body)
    quoted = orjson.dumps(name)
    if opening is None or (quoted in body and _has(body, name)):
        return None
    end = opening.end(0) - len(opening.group(1))
    comma = b"" if opening.group(1) else b","
    return b"".join((body[:end], quoted, b":%d" % value, comma, body[end:]))


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ONE, _FALSE = msgspec.Raw(b"1"), msgspec.Raw(b"false")
#: How each API bounds an answer. Of a chat both names do, and vLLM takes the first where both are there.
_BOUNDS: Mapping[str, tuple[str, ...]] = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
#: What makes no sense with one token in one piece (engines refuse `stream_options` without a stream, and fewer tokens than
#: `min_tokens`), or names the other request. All else stays: any of it may be part of what the chat template writes.
_LEFT_OUT = frozenset(
    {"stream_options", "n", "best_of", "min_tokens", "background", "request_id", "rid", "kv_transfer_params"}
)


def one_token(body: bytes, api: str) -> bytes | None:
    """The request for the same prompt and one token of answer, in one piece; None: of this API, or of this body, there is none.

    What stays is as it was written, as one other spelling could be another prompt.
    """
    bounds = _BOUNDS.get(api)
    try:
        fields = _FIELDS.decode(body) if bounds is not None else {}
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if bounds is None:
        return None
    made = {name: value for name, value in fields.items() if name not in _LEFT_OUT}
    made["stream"] = _FALSE
    for name in [one for one in bounds if one in fields] or bounds[-1:]:
        made[name] = _ONE
    if api == "responses":
        made["store"] = _FALSE
    return msgspec.json.encode(made)


def _has(body: bytes, name: str) -> bool:
    """Whether the object itself has the field; prompts may well speak of it. What is not JSON is not ours to change."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return True
    return not isinstance(parsed, dict) or name in parsed
