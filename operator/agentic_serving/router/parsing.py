"""A call's body as JSON, or nothing: whatever comes from outside, nothing raises.

How large a body gets is bounded by what Envoy buffers, how deep by orjson (1,024 levels).
"""

import json
from typing import Any

import orjson

from agentic_serving.router.words import Call

__all__ = ["parsed"]

#: Half of a pair that clients cut in two when they shorten text: JSON as engines read it, and not as orjson does.
_SURROGATES = (b"\\ud", b"\\uD")
#: Python's own reader takes ten times as long: of larger bodies, nobody waits for that.
_MOST_SLOWLY = 4 << 20


def parsed(call: Call) -> dict[str, Any] | None:
    """The request; None where there is none to be read: cut off, compressed, in several parts, not JSON, no object."""
    encoding = call.headers.get("content-encoding", "identity").strip().lower()
    if not call.complete or not call.body or encoding not in ("", "identity"):
        return None
    try:
        found = orjson.loads(call.body)
    except orjson.JSONDecodeError:
        found = _slowly(call.body)
    return found if isinstance(found, dict) else None


def _slowly(body: bytes) -> object:
    if len(body) > _MOST_SLOWLY or not any(half in body for half in _SURROGATES):
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
