"""Carries out warm-ups: one request to one pod each, never tried again, of whose answer only the usage is read.

Whatever comes of one, its end is told once and in bounded time: siblings may wait for it. Bounded: `AT_ONCE` of them, each
with a body of at most what a call may have (8 MiB), for `TIMEOUT_S`.
"""

import asyncio
from collections.abc import Callable

import aiohttp
import orjson

from agentic_serving.program.identity.reading import mapping, number
from agentic_serving.router.words import Usage, WarmUp

__all__ = ["AT_ONCE", "Warmer"]

#: Each is a prefill that no client asked for; a fork wants as many as its stack has pods to spare.
AT_ONCE = 8
#: A prompt of 1,000,000 tokens at 15,000 a second; siblings that wait for one that hangs go when their hold is over.
TIMEOUT_S = 75.0
_CONNECT_S = 2.0
#: One token, and what an API repeats of the request beside it (Responses: instructions, tools), and no more than that.
_MAX_ANSWER_BYTES = 16 << 20


class Warmer:
    """Begins warm-ups on the running event loop.

    Args:
        told: of each one's end. `call_id` is the warm-up's; status 0: there was no answer.
    """

    def __init__(self, told: Callable[[Usage], None], *, at_once: int = AT_ONCE) -> None:
        self._told = told
        self._at_once = at_once
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def begin(self, warm_up: WarmUp) -> bool:
        """False: enough are under way."""
        if len(self._tasks) >= self._at_once:
            return False
        task = asyncio.get_running_loop().create_task(self._ask(warm_up))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def close(self) -> None:
        """Those under way end now, and engines stop computing them."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _ask(self, warm_up: WarmUp) -> None:
        usage = Usage(call_id=warm_up.id, endpoint=warm_up.endpoint)
        try:
            usage = await self._answer(warm_up)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):  # ValueError: what is no address
            pass
        finally:
            self._told(usage)

    async def _answer(self, warm_up: WarmUp) -> Usage:
        """An engine has its first token when it answers: the prompt is computed."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=_CONNECT_S)
            self._session = aiohttp.ClientSession(timeout=timeout, auto_decompress=False)
        url = f"http://{warm_up.endpoint}{warm_up.path}"
        asked = self._session.post(url, data=warm_up.body, headers=warm_up.headers, allow_redirects=False)
        async with asked as answer:
            text = bytearray()
            async for piece in answer.content.iter_any():
                text += piece
                if len(text) > _MAX_ANSWER_BYTES:
                    break
            prompt, cached = _tokens(text)
            return Usage(
                call_id=warm_up.id,
                endpoint=warm_up.endpoint,
                status=answer.status,
                prompt_tokens=prompt,
                cached_tokens=cached,
                output_tokens=1,
            )


def _tokens(answer: bytes | bytearray) -> tuple[int | None, int | None]:
    """The prompt's, and those of them that were cached, as far as the engine says; of Messages the three parts are added."""
    try:
        usage = mapping(mapping(orjson.loads(answer)).get("usage"))
    except orjson.JSONDecodeError:
        return None, None
    if (prompt := number(usage.get("prompt_tokens"))) is not None:
        return prompt, number(mapping(usage.get("prompt_tokens_details")).get("cached_tokens"))
    new = number(usage.get("input_tokens"))
    if new is None:
        return None, None
    details = mapping(usage.get("input_tokens_details"))
    if "cached_tokens" in details:
        return new, number(details.get("cached_tokens"))
    read, made = (
        number(usage.get(name)) for name in ("cache_read_input_tokens", "cache_creation_input_tokens")
    )
    return new + (read or 0) + (made or 0), read
