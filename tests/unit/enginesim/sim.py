"""One simulated engine behind a test client on loopback. Time passes only by its steps: nothing waits."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from agentic_serving.enginesim.app import application
from agentic_serving.enginesim.build import Built, build
from agentic_serving.enginesim.knobs import Knobs
from agentic_serving.enginesim.options import parse_serve
from agentic_serving.enginesim.pace import InstantPacer, Pacer

MODEL = "tiny"
OPTIONS = (
    "some/model",
    f"--served-model-name={MODEL}",
    "--max-model-len=8192",
    "--block-size=16",
    "--enable-prompt-tokens-details",
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
)
KNOBS = Knobs(kv_blocks=1025, dev_mode=True)
TOOL_SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
CHAT_TOOL = {
    "type": "function",
    "function": {"name": "read", "description": "Reads.", "parameters": TOOL_SCHEMA},
}
MESSAGES_TOOL = {"name": "read", "description": "Reads.", "input_schema": TOOL_SCHEMA}
RESPONSES_TOOL = {"type": "function", "name": "read", "description": "Reads.", "parameters": TOOL_SCHEMA}


@dataclass(frozen=True, kw_only=True)
class Event:
    """One server-sent event."""

    name: str | None
    data: str

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.data)
        return found


@dataclass(frozen=True, kw_only=True)
class Sim:
    """A running engine and its client."""

    built: Built
    client: TestClient[Any, Any]

    @property
    def url(self) -> str:
        return str(self.client.make_url("/")).rstrip("/")

    async def post(self, path: str, body: object, **more: Any) -> tuple[int, Any]:
        async with self.client.post(path, json=body, **more) as answer:
            return answer.status, await answer.json()

    async def ok(self, path: str, body: object) -> dict[str, Any]:
        status, answer = await self.post(path, body)
        assert status == 200, answer
        found: dict[str, Any] = answer
        return found

    async def events(self, path: str, body: dict[str, Any]) -> list[Event]:
        async with self.client.post(path, json={**body, "stream": True}) as answer:
            text = await answer.text()
            assert answer.status == 200, text
            assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        return list(parse_events(text))

    async def samples(self) -> dict[str, float]:
        """Sums of metric samples by name."""
        async with self.client.get("/metrics") as answer:
            text = await answer.text()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found


def parse_events(text: str) -> Iterator[Event]:
    for part in text.split("\n\n"):
        fields = [line.partition(": ") for line in part.split("\n") if line]
        names = [value for key, _, value in fields if key == "event"]
        data = [value for key, _, value in fields if key == "data"]
        if data:
            yield Event(name=names[0] if names else None, data=data[0])


@contextlib.asynccontextmanager
async def running(
    *more: str, knobs: Knobs = KNOBS, pacer: Pacer | None = None, without: str = ""
) -> AsyncIterator[Sim]:
    """An engine with these options beside the usual ones; `without` leaves those out that begin so."""
    usual = [option for option in OPTIONS if not (without and option.startswith(without))]
    built = build(parse_serve([*usual, *more], knobs.version), knobs, pacer or InstantPacer())
    steps = asyncio.create_task(built.engine.run())
    server = TestServer(application(built.service, built.metrics.registry, knobs))
    await server.start_server()
    try:
        async with TestClient(server) as client:
            yield Sim(built=built, client=client)
    finally:
        steps.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await steps
        await built.transfer.close()
        for part in (built.lmcache, built.events):
            if part is not None:
                await part.close()
    built.engine.replica.check()


def knobs(**more: Any) -> Knobs:
    return replace(KNOBS, **more)


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Let the event loop run until something is the case."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the engine has no event for every state
            await asyncio.sleep(0)


def chat(text: str = "hello there", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 4, **more}


def words(count: int) -> str:
    """A prompt of about so many tokens of the built-in tokenizer."""
    return "".join(f" w{i % 7}ord" for i in range(count // 3))
