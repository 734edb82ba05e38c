"""router.warmer: one request to a pod, and its end told once whatever the pod does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from agentic_serving.router.warmer import Warmer
from agentic_serving.router.words import Usage, WarmUp


@dataclass
class Engine:
    """Answers with a status, once it may."""

    endpoint: str = ""
    status: int = 200
    answer: bytes = b"x" * 100_000
    may: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[tuple[str, bytes]] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.Response:
        self.got.append((request.path_qs, await request.read()))
        self.came.set()
        await self.may.wait()
        return web.Response(status=self.status, headers={"location": "/elsewhere"}, body=self.answer)


@asynccontextmanager
async def engine() -> AsyncIterator[Engine]:
    made = Engine()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.endpoint = f"{host}:{port}"
    yield made
    made.may.set()
    await runner.cleanup()


class Told:
    """Hears of ends."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[tuple[str, int]] = asyncio.Queue()  # id and status
        self.tokens: list[tuple[int | None, int | None]] = []

    def __call__(self, usage: Usage) -> None:
        self.tokens.append((usage.prompt_tokens, usage.cached_tokens))
        self.ends.put_nowait((usage.call_id, usage.status))


def warm_up(endpoint: str, number: int = 0, path: str = "/v1/messages?beta=true") -> WarmUp:
    return WarmUp(id=f"q+r{number}", endpoint=endpoint, path=path, headers={"x-a": "1"}, body=b"{}")


@pytest.mark.parametrize("status", [200, 307, 400, 503])
async def test_a_pod_that_answers(status: int) -> None:
    told = Told()
    warmer = Warmer(told)
    async with engine() as pod:
        pod.status = status
        pod.may.set()
        assert warmer.begin(warm_up(pod.endpoint))
        assert await told.ends.get() == ("q+r0", status)
        assert pod.got == [("/v1/messages?beta=true", b"{}")]  # and nowhere else is it sent to
        await warmer.close()


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ('{"usage": {"prompt_tokens": 90, "prompt_tokens_details": {"cached_tokens": 64}}}', (90, 64)),
        ('{"usage": {"prompt_tokens": 90, "prompt_tokens_details": null}}', (90, None)),
        ('{"usage": {"input_tokens": 90, "input_tokens_details": {"cached_tokens": 64}}}', (90, 64)),
        (
            '{"usage": {"input_tokens": 20, "cache_read_input_tokens": 64, "cache_creation_input_tokens": 6}}',
            (90, 64),
        ),
        ('{"usage": {"input_tokens": 90}}', (90, None)),
        ('{"usage": [-1]}', (None, None)),
        ("no JSON", (None, None)),
    ],
    ids=[
        "chat",
        "chat without details",
        "responses",
        "messages",
        "messages without cache",
        "no usage",
        "no JSON",
    ],
)
async def test_what_the_engine_says_of_tokens(answer: str, tokens: tuple[int | None, int | None]) -> None:
    told = Told()
    warmer = Warmer(told)
    async with engine() as pod:
        pod.answer = answer.encode()
        pod.may.set()
        warmer.begin(warm_up(pod.endpoint))
        await told.ends.get()
        assert told.tokens == [tokens]
        await warmer.close()


@pytest.mark.parametrize("endpoint", ["127.0.0.1:1", "no address", "[::1]:1"])
async def test_a_pod_that_is_not_there(endpoint: str) -> None:
    told = Told()
    warmer = Warmer(told)
    assert warmer.begin(warm_up(endpoint))
    assert await told.ends.get() == ("q+r0", 0)
    await warmer.close()


async def test_no_more_than_so_many_at_once() -> None:
    told = Told()
    warmer = Warmer(told, at_once=2)
    async with engine() as pod:
        assert [warmer.begin(warm_up(pod.endpoint, i)) for i in range(3)] == [True, True, False]
        pod.may.set()
        await told.ends.get()
        await told.ends.get()
        await asyncio.sleep(0)  # the tasks' own ends
        assert warmer.begin(warm_up(pod.endpoint, 4))
        assert await told.ends.get() == ("q+r4", 200)
        await warmer.close()


async def test_those_under_way_end_with_the_process() -> None:
    told = Told()
    warmer = Warmer(told)
    async with engine() as pod:
        assert warmer.begin(warm_up(pod.endpoint))
        await pod.came.wait()
        await warmer.close()
        assert told.ends.get_nowait() == ("q+r0", 0)
