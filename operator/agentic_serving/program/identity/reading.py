"""Looking into headers and bodies from outside: what is not of the expected kind is absent. Nothing raises."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from agentic_serving.program.entries import is_list

__all__ = ["json_object", "mapping", "number", "seconds", "sequence", "text_of"]

#: Codex's metadata lists workspaces and can be long; Envoy lets 60 KiB of headers through by default.
_MAX_JSON_CHARS = 65_536
#: Enough to tell what a text begins with.
_TEXT_CHARS = 4_096
_DECIMAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?", re.ASCII)


def json_object(text: object) -> Mapping[str, Any]:
    """The JSON object that a text spells, else an empty one."""
    if not isinstance(text, str) or len(text) > _MAX_JSON_CHARS or not text.lstrip().startswith("{"):
        return {}
    try:
        return mapping(orjson.loads(text))
    except ValueError:  # not JSON, too deep, or text that is no UTF-8
        return {}


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> Sequence[Any]:
    return value if is_list(value) else ()


def number(value: object) -> int | None:
    """A count: an integer of at least 0, also as text of up to 9 digits, as headers write it."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) <= 9 else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def seconds(value: object, most: float) -> float | None:
    """A time from 0 to `most`, as a number or as text such as `12.5`."""
    if isinstance(value, str):
        return float(value) if _DECIMAL.fullmatch(value) and float(value) <= most else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= most else None


def text_of(content: object) -> str:
    """The beginning of a message's text."""
    if isinstance(content, str):
        return content[:_TEXT_CHARS]
    found, room = [], _TEXT_CHARS
    for part in sequence(content):
        text = part if isinstance(part, str) else mapping(part).get("text")
        if isinstance(text, str) and text:
            found.append(text[:room])
            room -= len(found[-1])
        if room <= 0:
            break
    return "\n".join(found)
