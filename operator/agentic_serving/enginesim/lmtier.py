"""The tier of a simulated engine behind LMCache's stand-in server.

The replica asks its tiers synchronously, and the server is another process. So before a request is admitted the
engine looks its prompt's chunks up, and the tier answers from what that lookup found; what is stored is sent
after the step. A server that does not answer holds nothing, until it answers again.
"""

import asyncio
import logging
from collections.abc import Sequence

import aiohttp

from agentic_serving.capacity.runs import Interner, Runs, blocks, cut, ids
from agentic_serving.fleet.tiers import Link, StoresOn
from agentic_serving.fleet.types import Source

__all__ = ["LMCacheTier"]

log = logging.getLogger(__name__)

#: From host memory to the accelerator: PCIe 4 x16 reaches about 25 GB/s.
_BYTES_PER_S = 25e9


class LMCacheTier:
    """fleet's `Tier` over HTTP.

    Args:
        url: of the server's request port.
        timeout_s: of one request; LMCache's `lmcache.mp.mq_timeout`.
    """

    source: Source = "host"
    stores_on: StoresOn = "finish"

    def __init__(
        self,
        url: str,
        *,
        names: Interner,
        block_tokens: int,
        block_bytes: int,
        timeout_s: float,
        prompt_only: bool,
    ) -> None:
        self.prompt_only = prompt_only
        self._url = url
        self._names = names
        self._block_tokens = block_tokens
        self._block_bytes = block_bytes
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._link = Link(_BYTES_PER_S)
        self._chunk_blocks = max(1, 256 // block_tokens)  # until the server has told its own
        self._present: set[bytes] = set()
        self._session: aiohttp.ClientSession | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def refresh(self, hashes: Sequence[bytes]) -> None:
        """Ask which chunks of a prompt are there."""
        keys = self._keys(hashes)
        if not keys:
            return
        answer = await self._post("lookup", {"keys": [key.hex() for key in keys]})
        if answer is None:
            self._present.clear()
            return
        chunk_blocks = max(1, answer["chunk_tokens"] // self._block_tokens)
        if chunk_blocks != self._chunk_blocks:
            self._chunk_blocks = chunk_blocks
            await self.refresh(hashes)
            return
        self._present.difference_update(keys[answer["chunks"] :])
        self._present.update(keys[: answer["chunks"]])

    def match(self, runs: Runs, start: int, now_s: float) -> int:  # noqa: ARG002 - the protocol's
        chunk = self._chunk_blocks
        count = start // chunk
        total = blocks(runs) // chunk
        while count < total and self._key(runs, count) in self._present:
            count += 1
        return max(0, count * chunk - start)

    def load(self, runs: Runs, start: int, stop: int, now_s: float) -> float:  # noqa: ARG002 - the protocol's
        return self._link.transfer((stop - start) * self._block_bytes, now_s)

    def store(self, runs: Runs, now_s: float) -> None:  # noqa: ARG002 - the protocol's
        keys = [self._key(runs, i) for i in range(blocks(runs) // self._chunk_blocks)]
        new = [key for key in keys if key not in self._present]
        if not new:
            return
        task = asyncio.get_running_loop().create_task(self._send(new))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def settle(self) -> None:
        """Return when everything has been sent."""
        while self._sending:
            await asyncio.gather(*self._sending)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _send(self, keys: Sequence[bytes]) -> None:
        size = self._chunk_blocks * self._block_bytes
        answer = await self._post("store", {"keys": [key.hex() for key in keys], "chunk_bytes": size})
        if answer is not None:
            self._present.update(keys)

    async def _post(self, what: str, body: dict[str, object]) -> dict[str, int] | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.post(f"{self._url}/{what}", json=body) as answer:
                return await answer.json() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            log.warning("LMCache's server does not answer: %s", error)
            return None

    def _keys(self, hashes: Sequence[bytes]) -> list[bytes]:
        """The last block's hash of each chunk names the chunk and its prefix."""
        return list(hashes[self._chunk_blocks - 1 :: self._chunk_blocks])

    def _key(self, runs: Runs, chunk: int) -> bytes:
        last = (chunk + 1) * self._chunk_blocks - 1
        name = self._names.name(next(ids(cut(runs, last, last + 1))))
        assert isinstance(name, bytes)  # noqa: S101 - only block hashes are interned
        return name
