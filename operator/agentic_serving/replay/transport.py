"""One turn over HTTP: sent, read as it streams, retried as the clients' SDKs do.

The Anthropic and OpenAI SDKs retry 408, 409, 429, 5xx and broken connections, wait as `Retry-After` says (up to a minute),
else 0.5 s doubled per attempt up to 8 s, less up to a quarter by chance. Agents also send a turn again whose stream broke.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
import orjson

from agentic_serving.clock import Clock
from agentic_serving.replay.answers import Answer, AnswerFailed, Usage
from agentic_serving.replay.bodies import API_PATHS, Api
from agentic_serving.replay.options import Options
from agentic_serving.replay.sse import Parser

__all__ = ["Outcome", "Transport"]

_RETRIED = (408, 409, 429)
_FIRST_WAIT_S, _LONGEST_WAIT_S, _LONGEST_ASKED_S = 0.5, 8.0, 60.0
#: Of an error's body, so much is kept for the report.
_SHOWN_CHARS = 300


@dataclass(slots=True)
class Outcome:
    """How a turn's requests went; times are seconds from the first attempt."""

    first_token_s: float | None = None
    completion_s: float = 0.0
    usage: Usage | None = None
    error: str = ""
    detail: str = ""
    retried: list[str] = field(default_factory=list)


class _Failed(Exception):
    """One attempt failed: `kind` for counting, `wait_s` if the server asked for one."""

    def __init__(
        self, kind: str, *, detail: str = "", again: bool = True, wait_s: float | None = None
    ) -> None:
        super().__init__(kind)
        self.kind, self.detail, self.again, self.wait_s = kind, detail, again, wait_s


class Transport:
    """Sends turns.

    Args:
        http: an open session without a limit of connections.
        options: endpoint, retries, timeout.
        clock: for all times.
        rng: for the back-off.
    """

    def __init__(self, http: aiohttp.ClientSession, options: Options, clock: Clock, rng: Random) -> None:
        self._http, self._options, self._clock, self._rng = http, options, clock, rng

    async def send(
        self, api: Api, body: Mapping[str, Any], headers_of: Callable[[int], Mapping[str, str]]
    ) -> Outcome:
        """Send one turn until it is answered or retries are used up; never raises for what the server did.

        Args:
            api: which path, and how to read the answer.
            body: the JSON body, the same in every attempt.
            headers_of: the headers of attempt 0, 1, ...
        """
        outcome, start_s, data = Outcome(), self._clock.monotonic_s(), orjson.dumps(body)
        for attempt in range(self._options.retries + 1):
            outcome.first_token_s = None
            try:
                async with asyncio.timeout(self._options.timeout_s):
                    await self._attempt(api, data, headers_of(attempt), outcome, start_s)
                break
            except (TimeoutError, _Failed, aiohttp.ClientError, OSError) as error:
                failed = _failure(error, self._options.timeout_s)
            if not failed.again or attempt == self._options.retries:
                outcome.error, outcome.detail = failed.kind, failed.detail
                break
            outcome.retried.append(failed.kind)
            await asyncio.sleep(self._wait_s(attempt, failed.wait_s))
        outcome.completion_s = self._clock.monotonic_s() - start_s
        return outcome

    async def _attempt(
        self, api: Api, data: bytes, headers: Mapping[str, str], outcome: Outcome, start_s: float
    ) -> None:
        url = self._options.url(API_PATHS[api])
        sent = {
            "Content-Type": "application/json",
            **self._credentials(),
            **headers,
            **dict(self._options.headers),
        }
        async with self._http.post(url, data=data, headers=sent) as response:
            if response.status != 200:
                raise await _refusal(response)
            answer = Answer(api)
            try:
                if response.content_type == "text/event-stream":
                    await self._stream(response, answer, outcome, start_s)
                else:
                    answer.whole(orjson.loads(await response.read()))
                    outcome.first_token_s = self._clock.monotonic_s() - start_s
            except AnswerFailed as error:
                raise _Failed("error in the stream", detail=str(error)[:_SHOWN_CHARS]) from None
            except orjson.JSONDecodeError:
                raise _Failed("not an answer", detail="200 without JSON", again=False) from None
            if not answer.done:
                raise _Failed("stream broken", detail="it ended before the answer did")
            outcome.usage = answer.usage

    async def _stream(
        self, response: aiohttp.ClientResponse, answer: Answer, outcome: Outcome, start_s: float
    ) -> None:
        parser = Parser()
        async for chunk in response.content.iter_any():
            for event in parser.feed(chunk):
                answer.event(event)
            if answer.begun and outcome.first_token_s is None:
                outcome.first_token_s = self._clock.monotonic_s() - start_s

    def _credentials(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._options.api_key}", "x-api-key": self._options.api_key}

    def _wait_s(self, attempt: int, asked_s: float | None) -> float:
        if asked_s is not None and 0 <= asked_s <= _LONGEST_ASKED_S:
            return asked_s
        return min(_FIRST_WAIT_S * 2.0**attempt, _LONGEST_WAIT_S) * (1 - 0.25 * self._rng.random())


async def _refusal(response: aiohttp.ClientResponse) -> _Failed:
    detail = (await response.text(errors="replace"))[:_SHOWN_CHARS]
    again = response.status in _RETRIED or response.status >= 500
    try:
        wait_s = float(response.headers.get("Retry-After", ""))
    except ValueError:
        wait_s = None
    return _Failed(f"HTTP {response.status}", detail=detail, again=again, wait_s=wait_s)


def _failure(error: Exception, timeout_s: float) -> _Failed:
    """What to call it in the report."""
    if isinstance(error, _Failed):
        return error
    if isinstance(error, TimeoutError):
        return _Failed("timeout", detail=f"no whole answer within {timeout_s:g} s")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _Failed("cannot connect", detail=str(error))
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionResetError)):
        return _Failed("stream broken", detail=str(error))
    if isinstance(error, aiohttp.InvalidURL):
        return _Failed("bad URL", detail=str(error), again=False)
    return _Failed("connection", detail=f"{type(error).__name__}: {error}")
