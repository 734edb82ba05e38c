"""router.scrape: what is read of an engine's page, and how rounds go on whatever engines do."""

import asyncio
from random import Random

import pytest
from aiohttp import web

from agentic_serving.router.scrape import Sample, Scraper, read_metrics

#: As a real vLLM 0.32 says it, without its thirty other labels.
CACHE = 'vllm:cache_config_info{block_size="64",%snum_gpu_blocks="%s"} 1.0'


@pytest.mark.parametrize(
    ("engine", "lines", "expected"),
    [
        (
            "vLLM",
            ['vllm:num_requests_running{engine="0"} 3.0', 'vllm:num_requests_waiting{engine="0"} 2.0'],
            Sample(running=3, waiting=2),
        ),
        ("vLLM", [CACHE % ("", "640")], Sample(capacity_tokens=40_960)),
        ("vLLM", [CACHE % ('kv_cache_size_tokens="32768",', "640")], Sample(capacity_tokens=32_768)),
        ("vLLM", [CACHE % ("", "None")], Sample()),
        (
            "vLLM",
            [
                'vllm:num_requests_running{engine="0"} 3',
                'vllm:num_requests_running{engine="1"} 4',
                CACHE % ("", "1"),
                CACHE % ("", "2"),
            ],
            Sample(running=7, capacity_tokens=192),
        ),
        ("vLLM", ['vllm:num_requests_waiting_by_reason{reason="capacity"} 9'], Sample()),
        (
            "SGLang",
            [
                'sglang:num_running_reqs{tp_rank="0"} 5.0',
                "sglang:num_queue_reqs 1.0",
                "sglang:max_total_num_tokens 1e+06",
            ],
            Sample(running=5, waiting=1, capacity_tokens=1_000_000),
        ),
        (
            "SGLang",
            [
                f'sglang:max_total_num_tokens{{dp_rank="{dp}",tp_rank="{tp}"}} 60000'
                for dp in "01"
                for tp in "0123"
            ]
            + [
                'sglang:num_running_reqs{tp_rank="0",priority=""} 8',
                'sglang:num_running_reqs{tp_rank="0",dp_rank="0",priority=""} 3',
                'sglang:num_running_reqs{tp_rank="0",dp_rank="0",priority="10"} 2',
                'sglang:num_running_reqs{tp_rank="0",dp_rank="1",priority=""} 5',
            ],
            Sample(running=8, capacity_tokens=120_000),
        ),
        (
            "vLLM",
            [
                "\x00",
                "vllm:num_requests_running",
                *(f"vllm:num_requests_running {text}" for text in ("nan", "e", "1.2.3", "1e999", "-4", "+-")),
                CACHE % ("", "9" * 400),
            ],
            Sample(),
        ),
    ],
    ids=[
        "gauges",
        "blocks",
        "tokens as it says",
        "not known yet",
        "ranks add up",
        "not the longer name",
        "SGLang",
        "SGLang's ranks that repeat each other, and those that add up",
        "nonsense",
    ],
)
def test_pages(engine: str, lines: list[str], expected: Sample) -> None:
    assert read_metrics(engine, "\n".join(lines)) == expected  # type: ignore[arg-type]


async def test_an_engine_that_does_not_answer_keeps_what_it_said(aiohttp_pages: "Pages") -> None:
    changes: list[Sample] = []
    failures: list[bool] = []
    endpoint = aiohttp_pages.endpoint
    scraper = Scraper(
        "vLLM",
        lambda: [endpoint],
        lambda: changes.append(scraper.sample(endpoint)),
        rng=Random(1),
        failed=lambda: failures.append(True),
    )
    aiohttp_pages.page = "vllm:num_requests_running 3"
    await scraper.once()
    aiohttp_pages.page = None
    await scraper.once()
    aiohttp_pages.page = "vllm:num_requests_running 4"
    await scraper.once()
    assert [one.running for one in changes] == [3, 4]
    assert len(failures) == 1


async def test_an_engine_that_hangs_delays_no_other(aiohttp_pages: "Pages") -> None:
    never = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await never.wait()
        finally:
            writer.close()

    hanging = await asyncio.start_server(hang, "127.0.0.1", 0)
    host, port = hanging.sockets[0].getsockname()[:2]
    endpoint = aiohttp_pages.endpoint
    read: asyncio.Queue[int] = asyncio.Queue()
    scraper = Scraper(
        "vLLM",
        lambda: [f"{host}:{port}", endpoint],
        lambda: read.put_nowait(scraper.sample(endpoint).running),
        rng=Random(1),
    )
    running = asyncio.create_task(scraper.run())
    async with asyncio.timeout(4):  # less than the one that hangs is waited for
        for number in (3, 4):
            aiohttp_pages.page = f"vllm:num_requests_running {number}"
            assert await read.get() == number
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    never.set()
    hanging.close()
    await hanging.wait_closed()


class Pages:
    """An engine with a page of metrics, or none."""

    page: str | None = ""
    endpoint = ""

    async def get(self, _: web.Request) -> web.Response:
        return web.Response(status=500) if self.page is None else web.Response(text=self.page)


@pytest.fixture
async def aiohttp_pages():  # noqa: ANN201 - a generator of Pages
    pages = Pages()
    app = web.Application()
    app.router.add_get("/metrics", pages.get)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    pages.endpoint = f"{host}:{port}"
    yield pages
    await runner.cleanup()
