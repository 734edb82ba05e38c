"""What engines say of themselves: requests that run and wait, and how many tokens their cache holds.

Asked about once a second, each by itself: one that does not answer keeps what it said last, and delays no other.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

import aiohttp

__all__ = ["INTERVAL_S", "Sample", "Scraper", "read_metrics"]

#: As often as llm-d's picker is recommended to at most; the picker itself asks every 50 ms.
INTERVAL_S = 1.0
_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_LINE = re.compile(r"^(?P<name>[a-z_:]+)(?:\{(?P<labels>.*)\})? (?P<value>[-+0-9.eE]+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Engine = Literal["vLLM", "SGLang"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One page. `capacity_tokens`: None: it does not say."""

    running: int = 0
    waiting: int = 0
    capacity_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class _Names:
    running: str
    waiting: str
    tokens: str = ""  # a gauge of tokens
    blocks: str = ""  # an info metric about the cache

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(one for one in (self.running, self.waiting, self.tokens, self.blocks) if one)


#: vLLM 0.32 `vllm/v1/metrics/loggers.py`; SGLang 0.5 `python/sglang/srt/metrics/collector.py`.
_NAMES: Mapping[Engine, _Names] = {
    "vLLM": _Names("vllm:num_requests_running", "vllm:num_requests_waiting", blocks="vllm:cache_config_info"),
    "SGLang": _Names(
        "sglang:num_running_reqs", "sglang:num_queue_reqs", tokens="sglang:max_total_num_tokens"
    ),
}


def read_metrics(engine: Engine, text: str) -> Sample:
    """Sums over the ranks of a data-parallel engine. Only the lines that are needed are parsed; nothing raises."""
    names = _NAMES[engine]
    totals = dict.fromkeys(names.all, 0.0)
    for line in text.splitlines():
        if not line.startswith(names.all):
            continue
        found = _LINE.match(line)
        if found is None or found["name"] not in totals:
            continue
        blocks = found["name"] == names.blocks
        totals[found["name"]] += _tokens(found["labels"] or "") if blocks else float(found["value"])
    capacity = int(totals[names.blocks or names.tokens])
    return Sample(
        running=int(totals[names.running]),
        waiting=int(totals[names.waiting]),
        capacity_tokens=capacity or None,
    )


def _tokens(labels: str) -> float:
    """vLLM 0.32 says tokens itself, which is right for models whose layers cache differently too."""
    found = dict(_LABEL.findall(labels))
    said, blocks, size = (
        found.get(name, "") for name in ("kv_cache_size_tokens", "num_gpu_blocks", "block_size")
    )
    if said.isdecimal():
        return float(int(said))
    return float(int(blocks) * int(size)) if blocks.isdecimal() and size.isdecimal() else 0.0


class Scraper:
    """Asks the pods of a stack.

    Args:
        endpoints: `ip:port` of those to ask, at the moment.
        changed: called after a round in which something is new.
    """

    def __init__(
        self,
        engine: Engine,
        endpoints: Callable[[], Iterable[str]],
        changed: Callable[[], None],
        *,
        rng: Random,
    ) -> None:
        self._engine = engine
        self._endpoints = endpoints
        self._changed = changed
        self._rng = rng
        self._samples: dict[str, Sample] = {}
        self.failures = 0  # pages that did not come

    def sample(self, endpoint: str) -> Sample:
        """What it said last."""
        return self._samples.get(endpoint, Sample())

    async def run(self) -> None:
        """Until cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                await self._round(session)
                await asyncio.sleep(INTERVAL_S * (0.9 + 0.2 * self._rng.random()))

    async def once(self) -> None:
        """One round."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            await self._round(session)

    async def _round(self, session: aiohttp.ClientSession) -> None:
        endpoints = list(self._endpoints())
        pages = await asyncio.gather(*(self._page(session, one) for one in endpoints))
        now = {
            endpoint: self.sample(endpoint) if page is None else read_metrics(self._engine, page)
            for endpoint, page in zip(endpoints, pages, strict=True)
        }
        before, self._samples = self._samples, now
        if now != before:
            self._changed()

    async def _page(self, session: aiohttp.ClientSession, endpoint: str) -> str | None:
        try:
            async with session.get(f"http://{endpoint}/metrics") as answer:
                answer.raise_for_status()
                return (await answer.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.failures += 1
            return None
