"""enginesim's prefix cache: a second turn hits exactly its full blocks, an aborted request frees its own."""

import asyncio

import aiohttp
import pytest

from agentic_serving.enginesim.pace import RealPacer
from tests.unit.enginesim.sim import MODEL, Sim, chat, knobs, running, until, words

BLOCK = 16


async def _cached(sim: Sim, body: object) -> tuple[int, int]:
    usage = (await sim.ok("/v1/chat/completions", body))["usage"]
    return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]


async def test_the_same_prompt_again_hits_all_full_blocks_but_the_last_token() -> None:
    async with running() as sim:
        tokens, cold = await _cached(sim, chat(words(600)))
        _, warm = await _cached(sim, chat(words(600)))
        counted = await sim.samples()
    assert cold == 0
    assert warm == (tokens - 1) // BLOCK * BLOCK
    assert counted["vllm:prefix_cache_hits_total"] == warm
    assert counted["vllm:prefix_cache_queries_total"] == 2 * tokens


@pytest.mark.parametrize("answer_tokens", [1, 15, 16, 40])
async def test_the_next_turn_hits_the_prompt_and_the_answer_to_the_last_full_block(
    answer_tokens: int,
) -> None:
    async with running() as sim:
        body = chat(words(300), max_tokens=answer_tokens)
        first = await sim.ok("/v1/chat/completions", body)
        text = first["choices"][0]["message"]["content"]
        more = [{"role": "assistant", "content": text}, {"role": "user", "content": "go on"}]
        _, cached = await _cached(sim, {**body, "messages": body["messages"] + more})
    # The last token of an answer is never computed: its block is full only without it.
    computed = first["usage"]["total_tokens"] - 1
    assert cached == computed // BLOCK * BLOCK


async def test_another_beginning_hits_nothing() -> None:
    async with running() as sim:
        await _cached(sim, chat(words(600)))
        assert (await _cached(sim, chat("x" + words(600))))[1] <= BLOCK  # the template's own beginning


async def test_a_salt_keeps_prompts_apart() -> None:
    async with running() as sim:
        await _cached(sim, chat(words(600), cache_salt="a"))
        assert (await _cached(sim, chat(words(600), cache_salt="b")))[1] == 0
        assert (await _cached(sim, chat(words(600), cache_salt="a")))[1] > 0


async def test_a_reset_forgets() -> None:
    async with running() as sim:
        await _cached(sim, chat(words(600)))
        async with sim.client.post("/reset_prefix_cache") as answer:
            assert await answer.json() == {"success": True}
        assert (await _cached(sim, chat(words(600))))[1] == 0


async def test_without_prefix_caching_nothing_is_found() -> None:
    async with running("--no-enable-prefix-caching") as sim:
        await _cached(sim, chat(words(600)))
        assert (await _cached(sim, chat(words(600))))[1] == 0


async def test_a_client_that_goes_away_frees_its_blocks() -> None:
    async with running(pacer=RealPacer(1.0), knobs=knobs(time_scale=1.0)) as sim:
        async with aiohttp.ClientSession() as session:
            body = {**chat(words(600), max_tokens=4000), "stream": True}
            async with session.post(f"{sim.url}/v1/chat/completions", json=body) as answer:
                await answer.content.readline()
                assert sim.built.engine.live()
        await asyncio.wait_for(sim.built.engine.drained(), timeout=10)
        stats = sim.built.engine.replica.stats()
        counted = await sim.samples()
    assert stats.free_blocks == stats.usable_blocks
    assert counted["vllm:request_success_total"] == 1  # finished_reason="abort"


async def test_a_small_cache_forgets_the_oldest() -> None:
    async with running("--max-model-len=1024", knobs=knobs(kv_blocks=66), without="--max-model-len") as sim:
        for name in ("a", "b", "c"):
            await _cached(sim, chat(name + words(600)))
        _, oldest = await _cached(sim, chat("a" + words(600)))
    assert oldest <= BLOCK


async def test_priority_runs_first() -> None:
    options = ("--scheduling-policy=priority", "--max-num-seqs=1")
    async with running(*options, pacer=RealPacer(0.05)) as sim:
        done: list[int] = []

        async def ask(priority: int, tokens: int) -> None:
            await sim.ok("/v1/chat/completions", chat(f"p{priority}", priority=priority, max_tokens=tokens))
            done.append(priority)

        first = asyncio.create_task(ask(0, 200))
        await until(lambda: sim.built.engine.replica.stats().running == 1)
        rest = [asyncio.create_task(ask(5, 2))]
        await until(lambda: sim.built.engine.replica.stats().waiting == 1)
        rest.append(asyncio.create_task(ask(1, 2)))
        await asyncio.gather(first, *rest)
    assert done == [0, 1, 5]


async def test_the_queue_limit_answers_503() -> None:
    async with running("--max-num-seqs=1", "--max-num-queued-reqs=1", pacer=RealPacer(1.0)) as sim:
        tasks = [asyncio.create_task(sim.post("/v1/chat/completions", chat(max_tokens=50))) for _ in range(2)]
        await until(lambda: len(sim.built.engine.live()) == 2)
        status, _ = await sim.post("/v1/completions", {"model": MODEL, "prompt": "x"})
        counted = await sim.samples()
        sim.built.engine.abort_all()
        assert (status, counted["vllm:admission_rejections_total"]) == (503, 1)
        await asyncio.gather(*tasks)
