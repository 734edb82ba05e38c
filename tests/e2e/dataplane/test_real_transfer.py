"""Prefill on one real vLLM, decode on another: the operator's command lines move KV cache over NIXL, here over TCP.

The test takes the place of the P/D sidecar and says to each engine what the sidecar would. Replaced, and nothing else:
the model, ports (loopback is shared, a pod's is not), and sizes of memory. Two cores cannot run NIXL's progress thread
beside the engines, so a plugin leaves it out (tests/e2e/realengines/plugin).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.localcluster.process import Workplace, free_ports
from tests.e2e.realengines.client import Json
from tests.e2e.realengines.install import VLLM
from tests.e2e.realengines.processes import Engine, start_rendered_vllm
from tests.e2e.realengines.rendered import EnginePod, changed, engine_pods

pytestmark = pytest.mark.timeout(600)  # two engines start

_STACK = f"""
apiVersion: agentic-serving.dev/v1alpha1
kind: AgenticServingStack
metadata: {{name: pair}}
spec:
  model:
    name: tiny
    source: {{huggingFace: {{repository: agentic-serving/tiny-random-llama}}}}
    contextLength: 16384
  engine:
    image: localhost:5001/vllm-openai-cpu-nixl:v{VLLM}
    version: {VLLM}
    env: [{{name: VLLM_CPU_KVCACHE_SPACE, value: "1"}}]
  accelerator: {{preset: cpu}}
  topology:
    disaggregated: {{prefill: {{replicas: 1}}, decode: {{replicas: 1}}}}
"""
_PROMPT = [300 + (i * 13) % 650 for i in range(1000)]
_ASK_TO_KEEP = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    prefill: Engine
    decode: Engine


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The two roles of one stack, ready."""
    file = tmp_path_factory.mktemp("pair") / "stack.yaml"
    file.write_text(_STACK, encoding="utf-8")
    pods = {pod.name.rpartition("-")[2]: pod for pod in engine_pods(file)}
    with Workplace("agentic-transfer-") as place:
        engines = {role: _start(place, role, pods[role]) for role in ("prefill", "decode")}
        yield Pair(**{role: engine.await_ready() for role, engine in engines.items()})


def _start(place: Workplace, role: str, pod: EnginePod) -> Engine:
    port, side_channel = free_ports(2)
    env = {**pod.engine.env, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(side_channel)}
    return start_rendered_vllm(place, changed(pod.engine.argv, {"--port": str(port)}), env, name=role)


def test_decode_takes_the_whole_prompt_from_prefill(pair: Pair) -> None:
    first = _ask(pair.prefill, _PROMPT, max_tokens=1, transfer=_ASK_TO_KEEP)
    before = pair.decode.metrics()["vllm:external_prefix_cache_hits_total"]
    answer = _ask(pair.decode, _PROMPT, max_tokens=4, transfer=first["kv_transfer_params"])
    assert answer["usage"]["completion_tokens"] == 4
    moved = pair.decode.metrics()["vllm:external_prefix_cache_hits_total"] - before
    assert moved >= len(_PROMPT) - 1  # the last token may be computed again


def test_decode_says_the_same_as_an_engine_that_computed_it(pair: Pair) -> None:
    """Wrong KV cache would give another distribution: a random model is as sensitive as any."""
    prompt = _PROMPT[::-1]
    alone = _ask(pair.prefill, prompt, max_tokens=3, transfer=_ASK_TO_KEEP)
    first = _ask(pair.prefill, prompt, max_tokens=1, transfer=_ASK_TO_KEEP)
    moved = _ask(pair.decode, prompt, max_tokens=3, transfer=first["kv_transfer_params"])
    expected, found = (a["choices"][0]["logprobs"]["token_logprobs"] for a in (alone, moved))
    assert found == pytest.approx(expected, abs=0.02)  # bf16, other batch sizes


def test_a_peer_that_is_gone_costs_time_not_the_turn(pair: Pair) -> None:
    """kv_load_failure_policy recompute: the turn is computed where it is."""
    prompt = [950 - (i * 17) % 640 for i in range(500)]  # nothing that decode holds already
    first = _ask(pair.prefill, prompt, max_tokens=1, transfer=_ASK_TO_KEEP)
    pair.prefill.stop()
    answer = _ask(pair.decode, prompt, max_tokens=4, transfer=first["kv_transfer_params"])
    assert answer["usage"]["completion_tokens"] == 4


def _ask(engine: Engine, prompt: list[int], *, max_tokens: int, transfer: Json) -> Json:
    body = {
        "model": "tiny",
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "logprobs": 1,
        "kv_transfer_params": transfer,
    }
    answer = engine.client.post("/v1/completions", body)
    assert answer.status == 200, answer.text
    return answer.json()
