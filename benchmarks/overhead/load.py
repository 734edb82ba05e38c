"""Bodies as Claude Code sends them, and clients that send them at a rate or as fast as they are answered."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import aiohttp
import orjson

from agentic_serving.replay.bodies import BodyOptions, body
from agentic_serving.replay.conversation import Call, Conversation, Entry, Tool

__all__ = ["Request", "at_rate", "large", "side_by_side", "small"]

#: Claude Code 2.1 (docs/agents.md): 24 tools and a system prompt in some 60 KB; then what the tools said.
_N_TOOLS, _TOOL_CHARS, _SYSTEM_CHARS = 24, 2_000, 12_000
_FIRST_CHARS, _CALL_CHARS, _RESULT_CHARS = 250_000, 300, 3_000
_N_SESSIONS = 20


@dataclass(frozen=True, slots=True)
class Request:
    """A turn: path, headers, body."""

    path: str
    headers: dict[str, str]
    body: bytes


class _Text:
    """Words without meaning, cut from one long text: making them must not take longer than sending them."""

    def __init__(self, rng: Random) -> None:
        words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)]
        self._long = " ".join(rng.choices(words, k=400_000))
        self._rng = rng

    def __call__(self, n_chars: int) -> str:
        at = self._rng.randrange(len(self._long) - n_chars)
        return self._long[at : at + n_chars]


def large(count: int, rng: Random) -> list[Request]:
    """So many turns, of growing sessions that take turns: about 400 KB each."""
    text = _Text(rng)
    tools = tuple(Tool(f"Tool{i}", text(_TOOL_CHARS)) for i in range(_N_TOOLS))
    system = text(_SYSTEM_CHARS)
    histories: list[list[Entry]] = [_first(text) for _ in range(_N_SESSIONS)]
    made = []
    for number in range(count):
        session, history = f"session-{number % _N_SESSIONS}", histories[number % _N_SESSIONS]
        history += _round(text, f"{number}")
        said = Conversation(
            tools=tools, system=system, entries=tuple(history), expected_tokens=0, output_tokens=1
        )
        options = BodyOptions(model="m", max_tokens=1000, session=session)
        headers = {"content-type": "application/json", "x-claude-code-session-id": session}
        made.append(Request("/v1/messages?beta=true", headers, orjson.dumps(body("messages", said, options))))
    return made


def _first(text: _Text) -> list[Entry]:
    entries = [Entry("user", text(2_000))]
    size = 0
    while size < _FIRST_CHARS:
        entries += _round(text, f"f{len(entries)}")
        size += _CALL_CHARS + _RESULT_CHARS
    return entries


def _round(text: _Text, call_id: str) -> list[Entry]:
    """The model calls a tool, the tool answers."""
    return [
        Entry("assistant", text(80), Call(call_id, "Tool1", text(_CALL_CHARS))),
        Entry("tool", text(_RESULT_CHARS), None, call_id),
    ]


def small(count: int, rng: Random) -> list[Request]:
    """Turns of 2 KB, each of a session of its own."""
    text = _Text(rng)
    made = []
    for number in range(count):
        headers = {"content-type": "application/json", "x-claude-code-session-id": f"small-{number}"}
        turn = {
            "model": "m",
            "stream": True,
            "max_tokens": 10,
            "messages": [{"role": "user", "content": text(2000)}],
        }
        made.append(Request("/v1/messages", headers, orjson.dumps(turn)))
    return made


async def at_rate(url: str, requests: Sequence[Request], per_s: float, rng: Random) -> list[float]:
    """Seconds that each took, sent at random times whatever becomes of those before."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = []
        due_s = time.perf_counter()
        for request in requests:
            due_s += rng.expovariate(per_s)
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            tasks.append(asyncio.create_task(_send(session, url, request)))
        return list(await asyncio.gather(*tasks))


async def side_by_side(url: str, requests: Sequence[Request], n_clients: int) -> float:
    """Seconds that all took, by clients that send one after another."""
    waiting = iter(requests)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began_s = time.perf_counter()

        async def client() -> None:
            for request in waiting:
                await _send(session, url, request)

        await asyncio.gather(*(client() for _ in range(n_clients)))
        return time.perf_counter() - began_s


async def _send(session: aiohttp.ClientSession, url: str, request: Request) -> float:
    began_s = time.perf_counter()
    async with session.post(url + request.path, data=request.body, headers=request.headers) as answer:
        await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"answered {answer.status}")
    return time.perf_counter() - began_s
