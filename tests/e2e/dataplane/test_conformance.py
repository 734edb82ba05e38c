"""The engine simulator answers like real vLLM: both run here with one command line and the same model.

What is compared: status codes and shapes of answers and streams, tokens, cached tokens of the same prompts, metrics,
KV events. Text is not: the model is random. Known differences are data beside the comparison, each with its reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.localcluster.process import Workplace, free_ports
from tests.e2e.realengines import tiny_model
from tests.e2e.realengines.cases import ANSWERED, NOT_SIMULATED, REFUSED, STREAMED, Case
from tests.e2e.realengines.client import Answer
from tests.e2e.realengines.events import EventLog
from tests.e2e.realengines.processes import SERVED, Engine, Served, start_sim, start_vllm
from tests.e2e.realengines.scenarios import CACHED_SCENARIOS, Scenario, play
from tests.e2e.realengines.shapes import differences, kinds, shape, stream_shape

pytestmark = pytest.mark.timeout(600)  # the first test waits for vLLM to be installed and to start

#: As the operator renders them for the CPU preset; events as for precise prefix routing.
_ARGUMENTS = (
    "--max-model-len=16384",
    "--enable-prefix-caching",
    "--block-size=64",
    "--max-num-seqs=8",
    "--shutdown-timeout=5",
    "--enable-force-include-usage",
    "--enable-prompt-tokens-details",
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
)


#: Of the process, its web framework and its hardware: nothing in this project reads them.
MISSING_METRICS = {
    *(f"python_gc_{name}" for name in ("collections", "objects_collected", "objects_uncollectable")),
    *(f"vllm:estimated_{name}_per_gpu" for name in ("flops", "read_bytes", "write_bytes")),
    *(f"http_{name}" for name in ("requests", "request_size_bytes", "response_size_bytes")),
    *(f"http_request_duration_{name}" for name in ("seconds", "highr_seconds")),
    "vllm:tool_call_parser_invocations",  # appears with the first answer that a tool parser has read
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The real engine and the simulated one, and what each publishes about its cache."""

    real: Engine
    sim: Engine
    real_events: EventLog
    sim_events: EventLog

    def both(self, case: Case) -> tuple[Answer, Answer]:
        real = self.real.client.request(case.method, case.path, case.body)
        return real, self.sim.client.request(case.method, case.path, case.body)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both, ready and warm."""
    model = tiny_model()
    ports = free_ports(2)
    with (
        Workplace("agentic-conformance-") as place,
        EventLog(ports[0]) as real_events,
        EventLog(ports[1]) as sim_events,
    ):
        served = [
            Served(model=model, name=name, arguments=(*_ARGUMENTS, _events_option(port)))
            for name, port in zip(("vllm", "sim"), ports, strict=True)
        ]
        real, sim = start_vllm(place, served[0]), start_sim(place, served[1])
        sim.await_ready()
        real.await_ready()
        for engine in (real, sim):
            engine.client.post("/v1/completions", {"model": SERVED, "prompt": "warm up", "max_tokens": 2})
            engine.client.post("/reset_prefix_cache")
        yield Pair(real=real, sim=sim, real_events=real_events, sim_events=sim_events)


def _events_option(port: int) -> str:
    return (
        '--kv-events-config={"enable_kv_cache_events":true,"publisher":"zmq",'
        f'"endpoint":"tcp://127.0.0.1:{port}","topic":"kv@127.0.0.1:{port}@{SERVED}"}}'
    )


@pytest.mark.parametrize("case", ANSWERED, ids=lambda case: case.name)
def test_answers_have_the_same_shape(pair: Pair, case: Case) -> None:
    real, sim = pair.both(case)
    assert (real.status, sim.status) == (200, 200), (real.text, sim.text)
    assert differences(shape(real.json()), shape(sim.json())) == []


@pytest.mark.parametrize("case", NOT_SIMULATED, ids=lambda case: case.name)
def test_what_is_not_simulated_is_refused_and_says_so(pair: Pair, case: Case) -> None:
    real, sim = pair.both(case)
    assert (real.status, sim.status) == (200, 400), (real.text, sim.text)
    assert "simulator" in sim.text


@pytest.mark.parametrize("case", STREAMED, ids=lambda case: case.name)
def test_streams_have_the_same_events(pair: Pair, case: Case) -> None:
    real, real_events = pair.real.client.stream(case.path, case.body)
    sim, sim_events = pair.sim.client.stream(case.path, case.body)
    assert (real.status, sim.status) == (200, 200), (real.text, sim.text)
    assert real.headers["content-type"] == sim.headers["content-type"]
    assert kinds(sim_events) == kinds(real_events)
    assert differences(stream_shape(real_events), stream_shape(sim_events)) == []


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_mistakes_are_refused_alike(pair: Pair, case: Case) -> None:
    real, sim = pair.both(case)
    assert real.status >= 400, real.text
    assert sim.status == real.status, (real.text, sim.text)
    assert differences(shape(real.json()), shape(sim.json())) == []


@pytest.mark.parametrize(
    "case", [case for case in ANSWERED if case.path == "/tokenize"], ids=lambda case: case.name
)
def test_prompts_are_the_same_tokens(pair: Pair, case: Case) -> None:
    real, sim = pair.both(case)
    assert sim.json()["tokens"] == real.json()["tokens"]
    assert (sim.json()["count"], sim.json()["max_model_len"]) == (
        real.json()["count"],
        real.json()["max_model_len"],
    )


@pytest.mark.parametrize(
    "case",
    [c for c in ANSWERED if "usage" not in c.name and "/v1/" in c.path and c.body],
    ids=lambda c: c.name,
)
def test_prompts_are_counted_alike(pair: Pair, case: Case) -> None:
    real, sim = pair.both(case)
    assert _prompt_tokens(sim) == _prompt_tokens(real)


def _prompt_tokens(answer: Answer) -> int:
    """Prompt tokens, under the name of whichever API."""
    body = answer.json()
    usage = body.get("usage", body)
    return int(usage.get("prompt_tokens", usage.get("input_tokens", -1)))


@pytest.mark.parametrize("scenario", CACHED_SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_same_prompts_hit_the_same_blocks(pair: Pair, scenario: Scenario) -> None:
    real, sim = play(scenario, pair.real.client), play(scenario, pair.sim.client)
    assert [turn.prompt_tokens for turn in sim] == [turn.prompt_tokens for turn in real]
    assert [turn.cached_tokens for turn in sim] == [turn.cached_tokens for turn in real]
    assert scenario.expects_hits == any(turn.cached_tokens for turn in real)


def test_cache_events_are_the_same(pair: Pair) -> None:
    counted = []
    for engine, log in ((pair.real, pair.real_events), (pair.sim, pair.sim_events)):
        log.settled()  # of the tests before
        for scenario in CACHED_SCENARIOS:
            play(scenario, engine.client)
        counted.append(log.settled())
    real, sim = counted
    assert real.blocks("BlockStored") > 0
    assert {kind: sim.blocks(kind) for kind in real.kinds} == {kind: real.blocks(kind) for kind in real.kinds}
    assert sim.fields == real.fields
    assert {topic.split("@")[0::2] == ["kv", SERVED] for topic in sim.topics | real.topics} == {True}


def test_every_metric_of_the_simulator_is_one_of_vllm_with_its_type(pair: Pair) -> None:
    real, sim = pair.real.metric_types(), pair.sim.metric_types()
    assert {name: kind for name, kind in sim.items() if real.get(name) != kind} == {}


def test_metrics_that_the_simulator_lacks_are_the_listed_ones(pair: Pair) -> None:
    real, sim = pair.real.metric_types(), pair.sim.metric_types()
    lacking = {name.removesuffix("_created") for name in real if name not in sim}
    assert lacking == MISSING_METRICS


def test_metrics_have_the_same_labels(pair: Pair) -> None:
    real, sim = _labels(pair.real), _labels(pair.sim)
    # The labels of this one are the whole configuration; readers use a few of them.
    assert sim.pop("vllm:cache_config_info") <= real.pop("vllm:cache_config_info")
    common = real.keys() & sim.keys()
    assert {name: sim[name] for name in common} == {name: real[name] for name in common}


def _labels(engine: Engine) -> dict[str, set[str]]:
    """Names of labels by sample."""
    return {
        name: {label for labels in by_labels for label, _ in labels}
        for name, by_labels in engine.samples().items()
    }
