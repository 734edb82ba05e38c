"""What engines say of themselves: requests that run and wait, and how many tokens their cache holds.

Asked about once a second, each by itself: one that does not answer keeps what it said last, and delays no other. What a
page says is not trusted: it never stops the scheduler.
"""

import asyncio
import contextlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

import aiohttp

__all__ = ["INTERVAL_S", "Sample", "Scraper", "read_metrics"]

#: As often as llm-d's picker is recommended to at most; the picker itself asks every 50 ms.
INTERVAL_S = 1.0
#: An engine under load answers late; it is not asked again before it has.
_TIMEOUT = aiohttp.ClientTimeout(total=5.0)
#: Of a round, for pages that are on their way: those that come later count in the next one.
_PATIENCE_S = 0.5
#: Pods asked at the same time; the others wait for a connection.
_AT_ONCE = 64
#: A page of vLLM 0.32 has about 100 KB; one engine with many models and ranks has several times as much.
_MAX_PAGE_BYTES = 8 * 2**20
#: What no engine can hold or run; a number beyond it is none.
_MOST = 1e12
_LINE = re.compile(r"^(?P<name>[a-z_:]+)(?:\{(?P<labels>.*)\})? (?P<value>[-+0-9.eE]+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Engine = Literal["vLLM", "SGLang"]
_Row = tuple[dict[str, str], float]  # labels, value


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
    """What all data-parallel ranks say together. Only the lines that are needed are parsed; nothing raises."""
    names = _NAMES[engine]
    rows: dict[str, list[_Row]] = {name: [] for name in names.all}
    for line in text.splitlines():
        if not line.startswith(names.all):
            continue
        found = _LINE.match(line)
        if found is not None and found["name"] in rows:
            rows[found["name"]].append((dict(_LABEL.findall(found["labels"] or "")), _number(found["value"])))
    total = _sum if engine == "vLLM" else _sum_of_ranks
    capacity = (
        sum(_tokens(labels) for labels, _ in rows[names.blocks])
        if names.blocks
        else total(rows[names.tokens])
    )
    return Sample(
        running=int(total(rows[names.running])),
        waiting=int(total(rows[names.waiting])),
        capacity_tokens=int(capacity) or None,
    )


def _number(text: str) -> float:
    """0 for what is no possible count."""
    with contextlib.suppress(ValueError):
        value = float(text)
        if math.isfinite(value) and 0 <= value <= _MOST:
            return value
    return 0.0


def _sum(rows: list[_Row]) -> float:
    """vLLM: one row for each engine, that is, for each data-parallel rank."""
    return sum(value for _, value in rows)


def _sum_of_ranks(rows: list[_Row]) -> float:
    """SGLang: every tensor- and pipeline-parallel rank repeats what its data-parallel rank has, so the largest counts. With
    priorities there is a row for each besides the one of all; with data parallelism a total may stand beside the ranks.
    """
    ranks: dict[str, float] = {}
    for labels, value in rows:
        if not labels.get("priority"):
            rank = labels.get("dp_rank", "")
            ranks[rank] = max(value, ranks.get(rank, 0.0))
    if len(ranks) > 1:
        ranks.pop("", None)
    return sum(ranks.values())


def _tokens(labels: Mapping[str, str]) -> float:
    """vLLM 0.32 says tokens itself, which is right for models whose layers cache differently too."""
    said, blocks, size = (
        _number(labels.get(name, "")) for name in ("kv_cache_size_tokens", "num_gpu_blocks", "block_size")
    )
    return said or min(blocks * size, _MOST)


class Scraper:
    """Asks the pods of a stack.

    Args:
        endpoints: `ip:port` of those to ask, at the moment.
        changed: called after a round in which something is new.
        failed: called for each page that did not come.
    """

    def __init__(
        self,
        engine: Engine,
        endpoints: Callable[[], Iterable[str]],
        changed: Callable[[], None],
        *,
        rng: Random,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._endpoints = endpoints
        self._changed = changed
        self._rng = rng
        self._failed = failed
        self._samples: dict[str, Sample] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._news = False

    def sample(self, endpoint: str) -> Sample:
        """What it said last."""
        return self._samples.get(endpoint, Sample())

    async def run(self) -> None:
        """Until cancelled."""
        async with self._session() as session:
            try:
                while True:
                    await self._round(session)
                    await asyncio.sleep(INTERVAL_S * (0.9 + 0.2 * self._rng.random()))
            finally:
                for task in self._asking.values():
                    task.cancel()

    async def once(self) -> None:
        """One round."""
        async with self._session() as session:
            await self._round(session)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(limit=_AT_ONCE))

    async def _round(self, session: aiohttp.ClientSession) -> None:
        endpoints = set(self._endpoints())
        for gone in self._samples.keys() - endpoints:
            del self._samples[gone]
        for endpoint in sorted(endpoints - self._asking.keys()):
            self._asking[endpoint] = asyncio.create_task(self._ask(session, endpoint))
        if self._asking:
            await asyncio.wait(self._asking.values(), timeout=_PATIENCE_S)
        if self._news:
            self._news = False
            self._changed()

    async def _ask(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        try:
            sample = read_metrics(self._engine, await _page(session, endpoint))
        except (
            aiohttp.ClientError,
            TimeoutError,
            OSError,
            ValueError,
        ):  # ValueError: no address, or a page without end
            self._failed()
        else:
            if sample != self.sample(endpoint):
                self._news = True
            self._samples[endpoint] = sample
        finally:
            del self._asking[endpoint]


async def _page(session: aiohttp.ClientSession, endpoint: str) -> str:
    async with session.get(f"http://{endpoint}/metrics") as answer:
        answer.raise_for_status()
        page = bytearray()
        async for piece in answer.content.iter_any():
            page += piece
            if len(page) > _MAX_PAGE_BYTES:
                raise ValueError("the page does not end")
    return page.decode("utf-8", "replace")
