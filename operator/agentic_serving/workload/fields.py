"""Reading values of foreign JSON: what is missing or of another type is refused by name."""

from collections.abc import Mapping
from typing import Any

from agentic_serving.errors import InvalidInput

__all__ = ["Reader"]


class Reader:
    """One JSON object of a trace, read field by field.

    Args:
        value: the decoded JSON.
        where: file and line, then the path inside, for messages.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidInput(where, f"expected a JSON object, found {_kind(value)}")
        self.value: Mapping[str, Any] = value
        self.where = where

    def number(self, key: str, *, default: float | None = None, least: float = 0.0) -> float:
        """A number that is at least `least`; `default` where it is absent or null."""
        found = self.value.get(key)
        if found is None and default is not None:
            return default
        if not isinstance(found, (int, float)) or isinstance(found, bool):
            raise self.refuse(key, f"expected a number, found {_kind(found)}")
        if not found >= least:
            raise self.refuse(key, f"must be at least {least:g}, found {found:g}")
        return found

    def count(self, key: str, *, default: int | None = None, least: int = 0) -> int:
        """A whole number."""
        found = self.number(key, default=default, least=least)
        if found != int(found):
            raise self.refuse(key, f"expected a whole number, found {found:g}")
        return int(found)

    def text(self, key: str, *, default: str | None = None) -> str:
        found = self.value.get(key)
        if found is None and default is not None:
            return default
        if not isinstance(found, str):
            raise self.refuse(key, f"expected a string, found {_kind(found)}")
        return found

    def items(self, key: str, *, optional: bool = False) -> list[Any]:
        found = self.value.get(key)
        if found is None and optional:
            return []
        if not isinstance(found, list):
            raise self.refuse(key, f"expected a list, found {_kind(found)}")
        return found

    def child(self, key: str) -> "Reader":
        return Reader(self.value.get(key), f"{self.where}: {key}")

    def children(self, key: str) -> list["Reader"]:
        return [Reader(item, f"{self.where}: {key}[{i}]") for i, item in enumerate(self.items(key))]

    def refuse(self, key: str, message: str) -> InvalidInput:
        return InvalidInput(f"{self.where}: {key}", message)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
