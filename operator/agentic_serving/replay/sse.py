"""Server-sent events out of bytes, however the network cut them (WHATWG HTML, section 9.2)."""

from dataclasses import dataclass

__all__ = ["Event", "Parser"]


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its type (empty where none was given) and its data lines joined."""

    type: str
    data: str


class Parser:
    """Bytes in, whole events out."""

    def __init__(self) -> None:
        self._rest = b""
        self._type = ""
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes."""
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        found = []
        for line in lines:
            event = self._line(line.rstrip(b"\r").decode("utf-8", errors="replace"))
            if event is not None:
                found.append(event)
        return found

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatched()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        return None

    def _dispatched(self) -> Event | None:
        event = Event(self._type, "\n".join(self._data)) if self._data else None
        self._type, self._data = "", []
        return event
