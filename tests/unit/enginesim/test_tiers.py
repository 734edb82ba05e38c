"""enginesim below and beside the engine's own cache: native offload, LMCache's stand-in, P/D transfer."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.capacity.runs import Interner
from agentic_serving.enginesim.lmcache.server import Server
from agentic_serving.enginesim.lmcache.store import ChunkStore
from agentic_serving.enginesim.options import parse_serve
from agentic_serving.enginesim.tiers import tiers_of
from agentic_serving.enginesim.transfer import connectors_of
from agentic_serving.errors import InvalidInput
from tests.unit.enginesim.sim import MODEL, Sim, chat, knobs, running, words

GIB = 2**30


def _transfer(name: str, extra: dict[str, Any] | None = None, role: str = "kv_both", **more: Any) -> str:
    config = {"kv_connector": name, "kv_role": role, "kv_connector_extra_config": extra or {}, **more}
    return f"--kv-transfer-config={json.dumps(config)}"


@contextlib.asynccontextmanager
async def lmcache(store: ChunkStore | None = None) -> AsyncIterator[tuple[Server, str]]:
    """A server and the engine's option that names it."""
    server = Server(store or ChunkStore(GIB), 256, "test")
    async with TestServer(server.requests()) as web:
        extra = {
            "lmcache.mp.host": f"tcp://{web.host}",
            "lmcache.mp.port": web.port,
            "lmcache.mp.mq_timeout": 5,
        }
        yield server, _transfer("LMCacheMPConnector", extra)


async def _ask(sim: Sim, text: str) -> tuple[int, int]:
    """Prompt and cached tokens; then everything has been written."""
    usage = (await sim.ok("/v1/chat/completions", chat(text)))["usage"]
    if sim.built.lmcache is not None:
        await sim.built.lmcache.settle()
    return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]


async def _reset(sim: Sim) -> None:
    async with sim.client.post("/reset_prefix_cache") as answer:
        assert (await answer.json())["success"]


async def test_native_offload_brings_blocks_back_after_a_reset() -> None:
    async with running(_transfer("OffloadingConnector", {"cpu_bytes_to_use": 4 * GIB})) as sim:
        tokens, _ = await _ask(sim, words(900))
        await _reset(sim)
        _, cached = await _ask(sim, words(900))
        found = await sim.samples()
    assert cached == (tokens - 1) // 16 * 16
    assert found["vllm:external_prefix_cache_hits_total"] == cached


async def test_lmcache_serves_a_restarted_engine_in_whole_chunks() -> None:
    async with lmcache() as (server, option):
        async with running(option) as sim:
            tokens, cold = await _ask(sim, words(3000))
        async with running(option) as sim:
            _, warm = await _ask(sim, words(3000))
            found = await sim.samples()
    assert cold == 0
    assert warm == tokens // 256 * 256
    assert found["vllm:external_prefix_cache_hits_total"] == warm
    assert len(server.store) == tokens // 256


async def test_an_lmcache_that_is_gone_costs_hits_not_answers() -> None:
    async with lmcache() as (_, option), running(option) as sim:
        await _ask(sim, words(3000))
    async with running(option) as sim:
        assert (await _ask(sim, words(3000)))[1] == 0
        await sim.ok("/v1/chat/completions", chat(words(3000)))


def test_the_folder_outlives_the_servers_memory(tmp_path: Path) -> None:
    first = ChunkStore(GIB, folder=tmp_path)
    first.store(["aa", "bb"], 100)
    second = ChunkStore(GIB, folder=tmp_path)
    found = second.lookup(["aa", "bb", "cc"])
    assert (found.memory, found.folder) == (0, 2)
    assert second.held_bytes == 200


@given(st.lists(st.integers(0, 30), max_size=80))
def test_a_store_never_holds_more_than_its_watermark(keys: list[int]) -> None:
    store = ChunkStore(1000)
    for key in keys:
        store.store([str(key)], 90)
        assert store.held_bytes <= 800
        assert store.held_bytes == 90 * len(store)


def test_an_unknown_connector_is_refused() -> None:
    options = parse_serve(["m", _transfer("HF3FSKVConnector")], "0.33.0")
    with pytest.raises(InvalidInput, match="HF3FSKVConnector"):
        tiers_of(options, connectors_of(options.kv_transfer), Interner(), 1)


PREFILL = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None}


@contextlib.asynccontextmanager
async def pair(policy: str = "recompute") -> AsyncIterator[tuple[Sim, Sim]]:
    """A prefill and a decode engine with the prefill's side channel."""
    async with running(_transfer("NixlConnector", role="kv_producer")) as prefill:
        channel = prefill.built.transfer
        async with TestServer(channel.application()) as web:
            channel.host, channel.port = str(web.host), int(web.port or 0)
            option = _transfer("NixlConnector", role="kv_consumer", kv_load_failure_policy=policy)
            async with running(option) as decode:
                yield prefill, decode


async def test_prefill_and_decode_as_the_sidecar_asks_them() -> None:
    async with pair() as (prefill, decode):
        body = chat(words(900), max_tokens=20)
        first = await prefill.ok(
            "/v1/chat/completions", {**body, "kv_transfer_params": PREFILL, "max_tokens": 1}
        )
        held = prefill.built.engine.replica.stats()
        params = first["kv_transfer_params"]
        second = await decode.ok("/v1/chat/completions", {**body, "kv_transfer_params": params})
        await prefill.built.transfer.idle()
        await decode.built.transfer.idle()
        freed = prefill.built.engine.replica.stats()
        found = await decode.samples()
    tokens = second["usage"]["prompt_tokens"]
    assert first["usage"]["completion_tokens"] == 1
    assert params["do_remote_prefill"] is True
    assert params["remote_num_tokens"] == tokens
    assert held.free_blocks < held.usable_blocks == freed.free_blocks
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 0  # as real vLLM counts
    assert found["vllm:external_prefix_cache_hits_total"] >= tokens - 16
    assert (
        second["choices"][0]["message"]["content"].split()[0]
        == first["choices"][0]["message"]["content"].strip()
    )


@pytest.mark.parametrize(("policy", "status"), [("recompute", 200), ("fail", 500)])
async def test_a_lost_prefill_is_computed_again_or_fails(policy: str, status: int) -> None:
    params = {
        "do_remote_prefill": True,
        "remote_request_id": "gone",
        "remote_host": "127.0.0.1",
        "remote_port": 9,
    }
    async with pair(policy) as (_, decode):
        found, _ = await decode.post("/v1/chat/completions", chat(kv_transfer_params=params))
    assert found == status


async def test_without_a_connector_the_parameters_do_nothing() -> None:
    async with running(knobs=knobs()) as sim:
        answer = await sim.ok(
            "/v1/completions", {"model": MODEL, "prompt": "x", "kv_transfer_params": PREFILL}
        )
    assert answer["kv_transfer_params"] is None
