"""Prefill and decode apart, through llm-d's picker and P/D sidecar. Engines are simulated, their transfer included."""

import asyncio
import os
import urllib.request
import uuid
from collections.abc import Iterator

import aiohttp
import pytest

from tests.e2e.routerkit.pickers import LLMD_EPP
from tests.e2e.stacks import Manifest
from tests.e2e.world import metric

from .clients import Caller, words
from .site import Site, Stack, new_session

LLMD_SIDECAR = "AGENTIC_E2E_LLMD_SIDECAR"
#: Tokens that a decode pod prefills itself rather than asking a prefill pod.
_THRESHOLD = 256


@pytest.fixture
def split(site: Site) -> Iterator[Stack]:
    for variable, what in ((LLMD_EPP, "llm-d's picker"), (LLMD_SIDECAR, "llm-d's P/D sidecar")):
        if not os.environ.get(variable):
            pytest.skip(f"{what}: set {variable} to a build of llm-d-router v0.10.0")
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    site.cluster.create_namespace(namespace)
    topology = {
        "disaggregated": {
            "prefill": {"replicas": 1},
            "decode": {"replicas": 1},
            "uncachedTokenThreshold": _THRESHOLD,
        }
    }
    # vLLM's own CPU image holds no NIXL: who wants prefill and decode apart there brings an image.
    engine = {"image": "localhost:5001/vllm-openai-cpu-lmcache:v0.33.0", "version": "0.33.0"}
    try:
        yield Stack.serve(site, namespace, "split", topology=topology, engine=engine, router={})
    finally:
        site.cluster.kubectl("delete", "namespace", namespace, "--wait=false")


async def test_long_prompts_are_prefilled_apart_and_short_ones_are_not(split: Stack) -> None:
    pods = {p["metadata"]["labels"]["agentic-serving.dev/role"]: p for p in split.pods("engine")}
    assert set(pods) == {"prefill", "decode"}
    session = new_session()
    async with aiohttp.ClientSession() as http:
        caller = Caller(endpoint=split.endpoint, model=split.model, http=http)
        short = await caller.chat([{"role": "user", "content": "Hello."}])
        assert short.ok, short
        assert await _tokens(pods["prefill"]) == 0
        long = await caller.chat(
            [{"role": "user", "content": words(3 * _THRESHOLD, about=session)}], session=session
        )
        assert long.ok, long
    prompt = long.usage["prompt_tokens"]
    assert await _tokens(pods["prefill"]) >= prompt - 64  # all of it but the last block's rest
    assert (
        await _tokens(pods["decode"], "vllm:prompt_tokens_by_source_total", source="external_kv_transfer") > 0
    )


async def _tokens(pod: Manifest, name: str = "vllm:prompt_tokens_total", **labels: str) -> float:
    """A counter of an engine; behind the sidecar it listens on 8200."""
    role = pod["metadata"]["labels"]["agentic-serving.dev/role"]
    port = 8200 if role == "decode" else 8000

    def ask() -> float:
        url = f"http://{pod['status']['podIP']}:{port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return metric(answer.read().decode(), name, **labels)

    return await asyncio.to_thread(ask)
