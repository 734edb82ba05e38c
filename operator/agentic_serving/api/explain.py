"""pydantic's errors in words that say what to write, and its locations as the paths that users know."""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from agentic_serving.api.patterns import HINTS

__all__ = ["join", "path_of", "say"]

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
#: Longer names are cut: a path is for reading.
_MAX_NAME_CHARS = 80

_JSON_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number with a fraction",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
_WANTED = {
    "bool_type": "true or false",
    "dict_type": "an object",
    "int_type": "a whole number",
    "model_type": "an object",
    "string_type": "a string",
    "tuple_type": "a list",
}


def join(path: str, name: str) -> str:
    """A field below a path: `spec.model`, or `spec.labels[a.b/c]` where the name is not a plain word."""
    shown = name if len(name) <= _MAX_NAME_CHARS else f"{name[:_MAX_NAME_CHARS]}..."
    if not _PLAIN.fullmatch(shown):
        return f"{path}[{shown}]"
    return f"{path}.{shown}" if path else shown


def path_of(location: Sequence[str | int]) -> str:
    """A pydantic location as a path: `("spec", "args", 2)` is `spec.args[2]`."""
    path = ""
    for part in location:
        if part != "[key]":  # how pydantic marks the key of a map
            path = f"{path}[{part}]" if isinstance(part, int) else join(path, part)
    return path


def say(error: Mapping[str, Any]) -> str:
    """What is wrong, and what to write instead, without the path."""
    kind = error["type"]
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, is {_JSON_NAMES.get(type(error['input']), 'something else')}"
    if kind in _SAY:
        return _SAY[kind](error.get("ctx", {}), error["input"])
    return str(error["msg"])


def _choices(context: Mapping[str, Any], value: object) -> str:
    words = re.findall(r"'([^']*)'", str(context["expected"]))
    if len(words) == 1:
        return f"must be {words[0]}"
    if value is False and "Off" in words:  # YAML 1.1, which kubectl and PyYAML read, has more words for false
        return f'must be {", ".join(words[:-1])} or {words[-1]}; write "Off" in quotes, as YAML reads Off as false'
    near = get_close_matches(str(value).lower(), [w.lower() for w in words], n=1, cutoff=0.5)
    hint = next((f"; did you mean {w}?" for w in words if w.lower() in near), "")
    return f"must be {', '.join(words[:-1])} or {words[-1]}{hint}"


def _pattern(context: Mapping[str, Any], _: object) -> str:
    pattern = str(context["pattern"])
    return f"must be {HINTS.get(pattern, f'of the form {pattern}')}"


def _entries(word: str, limit: str) -> Callable[[Mapping[str, Any], object], str]:
    return lambda context, _: f"must have {word} {context[limit]} entries, has {context['actual_length']}"


_SAY: dict[str, Callable[[Mapping[str, Any], object], str]] = {
    "missing": lambda _, __: "is required",
    "literal_error": _choices,
    "string_pattern_mismatch": _pattern,
    "string_too_short": lambda context, _: f"must have at least {context['min_length']} characters",
    "string_too_long": lambda context, _: f"must have at most {context['max_length']} characters",
    "greater_than_equal": lambda context, value: f"must be at least {context['ge']}, is {value}",
    "less_than_equal": lambda context, value: f"must be at most {context['le']}, is {value}",
    "too_short": _entries("at least", "min_length"),
    "too_long": _entries("at most", "max_length"),
}
