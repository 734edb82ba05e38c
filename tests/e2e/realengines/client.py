"""A small HTTP client for one server on loopback: answers as they are, streams as events."""

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Answer", "Client", "Event", "Json"]

Json: TypeAlias = Any  # whatever JSON holds; tests say what they expect of it

_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    text: str

    def json(self) -> Json:
        """The body, which must be JSON."""
        return json.loads(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One server-sent event."""

    name: str | None  # `event:`, None where there is none
    data: str

    def json(self) -> Json:
        return json.loads(self.data)


@dataclass(frozen=True, slots=True)
class Client:
    """One server."""

    port: int
    host: str = "127.0.0.1"

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Json = None, headers: Mapping[str, str] | None = None) -> Answer:
        """POST JSON; bytes and text are sent as they are."""
        return self.request("POST", path, body, headers)

    def answers(self, path: str) -> bool:
        """Whether it says 200 now."""
        try:
            return self.get(path).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def request(self, method: str, path: str, body: Json, headers: Mapping[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
        try:
            connection.request(
                method, path, _encoded(body), {"Content-Type": "application/json", **(headers or {})}
            )
            response = connection.getresponse()
            text = response.read().decode("utf-8", errors="replace")
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=names, text=text)
        finally:
            connection.close()

    def stream(
        self, path: str, body: Json, headers: Mapping[str, str] | None = None
    ) -> tuple[Answer, list[Event]]:
        """POST, and the events of the answer."""
        answer = self.post(path, body, headers)
        return answer, list(_events(answer.text))


def _encoded(body: Json) -> bytes | None:
    if body is None or isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def _events(text: str) -> Iterator[Event]:
    for part in text.replace("\r\n", "\n").split("\n\n"):
        fields = [line.partition(":") for line in part.split("\n") if line and not line.startswith(":")]
        data = "\n".join(value.removeprefix(" ") for name, _, value in fields if name == "data")
        names = [value.strip() for name, _, value in fields if name == "event"]
        if data or names:
            yield Event(name=names[-1] if names else None, data=data)
