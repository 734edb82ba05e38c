"""What the operator renders starts on real vLLM and real LMCache; examples for accelerators start on the simulator.

Replaced, and nothing else: the model (a tiny one), ports and the segment's name (loopback is shared, a pod's is not), and
sizes of memory. vLLM's development mode adds /reset_prefix_cache, which empties the cache at will.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.localcluster.process import Workplace, free_ports
from tests.e2e.realengines import install, tiny_model
from tests.e2e.realengines.install import VLLM
from tests.e2e.realengines.processes import (
    Engine,
    start_lmcache,
    start_rendered_sim,
    start_rendered_vllm,
)
from tests.e2e.realengines.record import options_file, recorded_options
from tests.e2e.realengines.rendered import EXAMPLES, EnginePod, changed, engine_pods, example_names

pytestmark = pytest.mark.timeout(600)  # the first test waits for vLLM to be installed and to start

_PODS = [(example, pod) for example in example_names() for pod in engine_pods(EXAMPLES / example)]
_CPU = [(example, pod) for example, pod in _PODS if pod.preset == "cpu"]
_OTHERS = [(example, pod) for example, pod in _PODS if pod.preset != "cpu"]
_CHUNK_TOKENS = 256  # LMCache stores and returns whole chunks
_PROMPT = [300 + (i * 11) % 600 for i in range(3 * _CHUNK_TOKENS + 10)]


@dataclass(slots=True, kw_only=True)
class Running:
    """The quick start's engine and its LMCache server as processes of this machine."""

    place: Workplace
    pod: EnginePod
    server_argv: list[str]
    http_port: int
    engine_argv: list[str]
    server: Engine
    engine: Engine

    def restart_engine(self) -> None:
        self.engine.stop()
        self.engine = start_rendered_vllm(self.place, self.engine_argv, self.pod.engine.env).await_ready()

    def ask(self) -> int:
        """Send the prompt; tokens that came from outside the engine's own cache."""
        before = self.engine.metrics()["vllm:external_prefix_cache_hits_total"]
        body = {"model": self.pod.engine.value("--served-model-name"), "prompt": _PROMPT, "max_tokens": 1}
        answer = self.engine.client.post("/v1/completions", body)
        assert answer.status == 200, answer.text
        return int(self.engine.metrics()["vllm:external_prefix_cache_hits_total"] - before)

    def empty_the_engines_cache(self) -> None:
        assert self.engine.client.post("/reset_prefix_cache").status == 200


@pytest.fixture(scope="module", params=_CPU, ids=lambda item: f"{item[0]}-{item[1].name}")
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The example's engine with its sidecar, ready."""
    _, pod = request.param
    (sidecar,) = pod.sidecars
    port, http_port, engine_port = free_ports(3)
    server_argv = changed(
        sidecar.argv,
        {
            "--port": str(port),
            "--http-port": str(http_port),
            "--shm-name": f"agentic-serving-{os.getpid()}",
            "--l1-size-gb": "0.25",
        },
    )
    connector = json.loads(pod.engine.value("--kv-transfer-config") or "{}")
    connector["kv_connector_extra_config"]["lmcache.mp.port"] = port
    engine_argv = changed(
        pod.engine.argv, {"--port": str(engine_port), "--kv-transfer-config": json.dumps(connector)}
    )
    with Workplace("agentic-real-") as place:
        server = start_lmcache(place, server_argv, http_port=http_port, env=sidecar.env)
        server.await_ready("/healthcheck")
        engine = start_rendered_vllm(place, engine_argv, pod.engine.env).await_ready()
        yield Running(
            place=place,
            pod=pod,
            server_argv=server_argv,
            http_port=http_port,
            engine_argv=engine_argv,
            server=server,
            engine=engine,
        )


def test_a_prompt_comes_back_from_lmcache_when_the_engine_has_lost_it(running: Running) -> None:
    assert running.ask() == 0
    running.empty_the_engines_cache()
    assert running.ask() == 3 * _CHUNK_TOKENS


def test_it_comes_back_to_an_engine_that_has_been_restarted(running: Running) -> None:
    running.ask()
    running.restart_engine()
    assert running.ask() == 3 * _CHUNK_TOKENS


def test_an_engine_serves_on_without_its_server_and_finds_it_again(running: Running) -> None:
    running.server.stop()
    running.empty_the_engines_cache()
    assert running.ask() == 0  # answered, computed
    running.server = start_lmcache(
        running.place, running.server_argv, http_port=running.http_port, env=running.pod.sidecars[0].env
    ).await_ready("/healthcheck")


def test_the_server_counts_what_it_gave(running: Running) -> None:
    metrics = running.server.metrics()
    assert metrics["lmcache_mp_l1_memory_usage_bytes"] >= 0


def test_the_recorded_options_are_those_of_its_parser() -> None:
    """What the operator knows of this version is what the engine itself declares, option by option."""
    recorded = json.loads(options_file(VLLM).read_text(encoding="utf-8"))["options"]
    assert recorded == recorded_options(install())


@pytest.mark.parametrize(("example", "pod"), _OTHERS, ids=lambda item: getattr(item, "name", item))
def test_every_other_example_starts_on_the_simulator(example: str, pod: EnginePod) -> None:
    """The simulator checks the options with the recorded ones of the version, then serves."""
    port = free_ports(1)[0]
    with Workplace("agentic-sim-") as place:
        argv = changed(pod.engine.argv, {"--port": str(port)})
        engine = start_rendered_sim(place, argv, pod.engine.env, model=tiny_model()).await_ready()
        served = pod.engine.value("--served-model-name")
        answer = engine.client.post("/v1/completions", {"model": served, "prompt": "hello", "max_tokens": 2})
        assert answer.status == 200, answer.text
