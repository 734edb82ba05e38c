"""A recording endpoint on loopback: answers as the APIs do, or as a test scripts it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

Reply = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse | None]]


@dataclass
class Seen:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Endpoint:
    """The server: `requests` without the calibration, `script` answers first if it returns something."""

    url: str = ""
    requests: list[Seen] = field(default_factory=list)
    script: Reply | None = None
    cached: int | None = 4
    running: int = 0
    most_running: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        calibration = body.get("max_tokens", body.get("max_output_tokens")) == 1 and "tools" not in body
        if not calibration:
            self.requests.append(Seen(request.path_qs, dict(request.headers), body))
            if self.script is not None and (scripted := await self.script(request, body)) is not None:
                return scripted
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events(request.path, len(json.dumps(body).split())):
            await response.write(event.encode())
        self.running -= 1
        return response

    def events(self, path: str, words: int) -> list[str]:
        """A short answer; the prompt's words are its tokens."""
        if path.endswith("/messages"):
            usage = {"input_tokens": words - (self.cached or 0), "cache_read_input_tokens": self.cached}
            bodies: list[dict[str, Any]] = [
                {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
                {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "the"}},
                {"type": "message_delta", "usage": {**usage, "output_tokens": 3}},
                {"type": "message_stop"},
            ]
            return [f"event: {b['type']}\ndata: {json.dumps(b)}\n\n" for b in bodies]
        details = {"cached_tokens": self.cached} if self.cached is not None else None
        if path.endswith("/responses"):
            usage = {"input_tokens": words, "output_tokens": 3, "input_tokens_details": details}
            bodies = [
                {"type": "response.output_text.delta", "delta": "the"},
                {"type": "response.completed", "response": {"usage": usage}},
            ]
            return [f"event: {b['type']}\ndata: {json.dumps(b)}\n\n" for b in bodies]
        usage = {"prompt_tokens": words, "completion_tokens": 3, "prompt_tokens_details": details}
        choice = {"text": "the"} if path.endswith("/v1/completions") else {"delta": {"content": "the"}}
        bodies = [{"choices": [choice]}, {"choices": [], "usage": usage}]
        return [*(f"data: {json.dumps(b)}\n\n" for b in bodies), "data: [DONE]\n\n"]


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    found = Endpoint()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/{path:.*}", found.answer)
    async with TestServer(app) as server:
        found.url = str(server.make_url("/")).rstrip("/")
        yield found
