"""enginesim's metrics: vLLM's names, types and labels, and figures that add up."""

import json
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from agentic_serving.enginesim.buckets import token_buckets
from tests.unit.enginesim.sim import MODEL, Sim, chat, running, words

RECORDED = json.loads((Path(__file__).parent / "data" / "vllm-metrics.json").read_text())["families"]


async def _families(sim: Sim) -> dict[str, dict[str, object]]:
    async with sim.client.get("/metrics") as answer:
        text = await answer.text()
    found: dict[str, dict[str, object]] = {}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("vllm:") or family.name.endswith("_created"):
            continue
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        found[family.name] = {"type": family.type, "labels": sorted(labels)}
    return found


async def test_names_types_and_labels_are_vllms() -> None:
    async with running() as sim:
        await sim.ok("/v1/chat/completions", chat())
        found = await _families(sim)
    del found["vllm:cache_config_info"]
    assert found == RECORDED


async def test_an_engine_that_fetches_kv_tells_by_stage() -> None:
    transfer = '--kv-transfer-config={"kv_connector":"NixlConnector","kv_role":"kv_consumer"}'
    async with running(transfer) as sim:
        assert "vllm:num_requests_kv_fetch_by_stage" in await _families(sim)


async def test_the_cache_is_described() -> None:
    async with running() as sim, sim.client.get("/metrics") as answer:
        line = next(
            line for line in (await answer.text()).split("\n") if line.startswith("vllm:cache_config_info{")
        )
    assert 'block_size="16"' in line
    assert 'num_gpu_blocks="1025"' in line


async def test_counts_of_two_requests() -> None:
    async with running() as sim:
        body = {"model": MODEL, "prompt": words(600), "max_tokens": 8}
        first = (await sim.ok("/v1/completions", body))["usage"]
        second = (await sim.ok("/v1/completions", body))["usage"]
        found = await sim.samples()
    prompt, cached = first["prompt_tokens"], second["prompt_tokens_details"]["cached_tokens"]
    assert found["vllm:prompt_tokens_total"] == 2 * prompt
    assert found["vllm:prompt_tokens_by_source_total"] == 2 * prompt
    assert found["vllm:prompt_tokens_cached_total"] == cached
    assert found["vllm:prompt_tokens_cached_by_source_total"] == cached
    assert found["vllm:generation_tokens_total"] == 16
    assert found["vllm:request_prefill_kv_computed_tokens_sum"] == 2 * prompt - cached
    assert found["vllm:request_success_total"] == 2
    assert found["vllm:inter_token_latency_seconds_count"] == 14
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time", "request_decode_time"):
        assert found[f"vllm:{name}_seconds_count"] == 2
    assert found["vllm:num_requests_running"] == found["vllm:num_requests_waiting"] == 0
    assert found["vllm:kv_cache_usage_perc"] == 0
    parts = found["vllm:request_prefill_time_seconds_sum"] + found["vllm:request_decode_time_seconds_sum"]
    assert abs(parts - found["vllm:request_inference_time_seconds_sum"]) < 1e-9


def test_buckets_of_token_counts() -> None:
    # vllm/v1/metrics/buckets.py, build_1_2_5_buckets(100), its own example.
    assert token_buckets(100) == [1, 2, 5, 10, 20, 50, 100]
