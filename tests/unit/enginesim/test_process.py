"""enginesim as a process: it starts as pods start it, drains at SIGTERM, and official clients read its streams."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import anthropic
import openai
import pytest

from tests.unit.enginesim.sim import CHAT_TOOL, MESSAGES_TOOL, MODEL, RESPONSES_TOOL, chat, running

ROOT = Path(__file__).parents[3]


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.asynccontextmanager
async def process(*argv: str, **env: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`enginesim` with these arguments and a free port; ready. Ended at the end."""
    port = _port()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentic_serving.enginesim", *argv, f"--port={port}",
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator"), **env},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while child.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/health"):
                        break
                await asyncio.sleep(0.05)
        yield child, url
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


SERVE = ("serve", "some/model", f"--served-model-name={MODEL}", "--max-model-len=8192")


@pytest.mark.parametrize(("timeout_s", "finishes"), [("30", True), ("0", False)], ids=["drain", "abort"])
async def test_sigterm_drains_or_aborts(timeout_s: str, finishes: bool) -> None:
    options = (*SERVE, f"--shutdown-timeout={timeout_s}")
    async with (
        process(*options, ENGINESIM_TIME_SCALE="0.5") as (child, url),
        aiohttp.ClientSession() as session,
    ):
        body = {**chat(max_tokens=60), "stream": True}
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            await answer.content.readline()
            child.send_signal(signal.SIGTERM)
            text = (await answer.read()).decode()
        assert await asyncio.wait_for(child.wait(), timeout=30) == 0
    assert ('"finish_reason":"length"' if finishes else '"finish_reason":"abort"') in text
    assert text.endswith("data: [DONE]\n\n")


async def test_the_tokenizer_service_renders_and_generates_nothing() -> None:
    command = ("launch", "render", "some/model")
    async with process(*command) as (_, url), aiohttp.ClientSession() as session:
        body = chat(model="some/model")
        async with session.post(f"{url}/v1/chat/completions/render", json=body) as answer:
            rendered = await answer.json()
        async with session.post(f"{url}/v1/completions/render", json={"prompt": "hello"}) as answer:
            plain = await answer.json()
        async with session.post(f"{url}/tokenize", json={"messages": body["messages"]}) as answer:
            tokens = (await answer.json())["tokens"]
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            assert answer.status == 404
    assert rendered["token_ids"] == tokens
    assert len(plain[0]["token_ids"]) == 1


async def test_official_openai_client_reads_chat_and_completions() -> None:
    async with running() as sim, openai.AsyncOpenAI(base_url=f"{sim.url}/v1", api_key="x") as client:
        whole = await client.chat.completions.create(**chat())
        stream = await client.chat.completions.create(
            **chat(
                stream=True,
                stream_options={"include_usage": True},
                tools=[CHAT_TOOL],
                tool_choice="required",
                max_tokens=60,
            )
        )
        chunks = [chunk async for chunk in stream]
        plain = await client.completions.create(model=MODEL, prompt="x", max_tokens=3)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 4
    assert chunks[-1].usage is not None
    calls = [c for chunk in chunks for choice in chunk.choices for c in choice.delta.tool_calls or []]
    assert calls[0].function is not None
    assert calls[0].function.name == "read"
    assert plain.choices[0].finish_reason == "length"


async def test_official_openai_client_reads_responses() -> None:
    wanted = {"model": MODEL, "input": "hi", "tools": [RESPONSES_TOOL], "tool_choice": "required"}
    async with (
        running() as sim,
        openai.AsyncOpenAI(base_url=f"{sim.url}/v1", api_key="x") as client,
        client.responses.stream(**wanted) as stream,
    ):
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert final.output[0].type == "function_call"


async def test_official_anthropic_client_reads_messages() -> None:
    async with running() as sim, anthropic.AsyncAnthropic(base_url=sim.url, api_key="x") as client:
        counted = await client.messages.count_tokens(
            model=MODEL, messages=[{"role": "user", "content": "hi"}]
        )
        async with client.messages.stream(
            model=MODEL, max_tokens=60, messages=[{"role": "user", "content": "hi"}],
            tools=[MESSAGES_TOOL], tool_choice={"type": "any"},
        ) as stream:  # fmt: skip
            final = await stream.get_final_message()
        with pytest.raises(anthropic.NotFoundError):
            await client.messages.create(
                model="x", max_tokens=1, messages=[{"role": "user", "content": "hi"}]
            )
    assert counted.input_tokens > 0
    assert final.stop_reason == "tool_use"
    assert final.content[0].type == "tool_use"
    assert final.content[0].input == {"path": final.content[0].input["path"]}
