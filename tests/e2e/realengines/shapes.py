"""The shape of an answer: its keys and the types of its values, without the values. Streams: shapes by kind of event."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.e2e.realengines.client import Event, Json

__all__ = ["differences", "kinds", "shape", "stream_shape"]


def shape(value: Json) -> Json:
    """Keys with the shapes of their values; a list by the shapes that occur in it; else the JSON type's name."""
    if isinstance(value, Mapping):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        found: list[Any] = []
        for item in map(shape, value):
            if item not in found:
                found.append(item)
        return found
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "null" if value is None else "string"


def kinds(events: Sequence[Event]) -> list[str]:
    """The kinds of events in order, a run of the same kind once."""
    found: list[str] = []
    for event in events:
        kind = _kind(event)
        if not found or found[-1] != kind:
            found.append(kind)
    return found


def stream_shape(events: Sequence[Event]) -> dict[str, list[Any]]:
    """The shapes that occur, by kind of event."""
    found: dict[str, list[Any]] = {}
    for event in events:
        shapes = found.setdefault(_kind(event), [])
        this = "end" if event.data == "[DONE]" else shape(event.json())
        if this not in shapes:
            shapes.append(this)
    return found


def _kind(event: Event) -> str:
    """Its name, else what it is: the end, usage only, or a chunk."""
    if event.name is not None:
        return event.name
    if event.data == "[DONE]":
        return "[DONE]"
    body = event.json()
    return "usage" if body.get("choices") == [] else str(body.get("object", "data"))


def differences(real: Json, other: Json, at: str = "") -> list[str]:
    """Where two shapes differ, by path; the first is the truth."""
    if isinstance(real, Mapping) and isinstance(other, Mapping):
        found = [f"{at}.{key} is missing" for key in real if key not in other]
        found += [f"{at}.{key} is not in the real engine's" for key in other if key not in real]
        for key in real.keys() & other.keys():
            found += differences(real[key], other[key], f"{at}.{key}")
        return sorted(found)
    if isinstance(real, list) and isinstance(other, list):
        if len(real) == len(other) == 1:
            return differences(real[0], other[0], f"{at}[]")
        same = len(real) == len(other) and all(item in other for item in real)
        return [] if same else [f"{at}: {other} instead of {real}"]
    return [] if real == other else [f"{at}: {other} instead of {real}"]
