"""Rendered picker configurations in the real pickers, behind the real Envoy, on a real API server."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.render.envoy import EnvoyInputs, envoy_config
from agentic_serving.render.picker import PickerConfig, PickerInputs, picker_config
from agentic_serving.render.releases import PickerRelease, load_release, release_names
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.localcluster.process import StartFailed, wait_until
from tests.e2e.routerkit.envoys import RunningEnvoy, running
from tests.e2e.routerkit.golden import golden_files
from tests.e2e.routerkit.pickers import LLMD_EPP, RunningPicker, picker_binary, running_picker
from tests.e2e.routerkit.pools import Pool, pool_of_two
from tests.e2e.routerkit.variants import PICKER_VARIANTS

CODER = ProgramRoute(namespace="router", name="coder", clients=("ClaudeCode",), objective_name="urgent")
SESSION = ("X-Claude-Code-Session-Id", "s-1")
READY = re.compile(r"^\w+_ready_(?:pods|endpoints)\{.*\} 2$", re.MULTILINE)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    crds = ("inference-pool", "gie-objective", "llmd-objective")
    with (
        ControlPlane(Options(controllers=False, pods=False, crds=crds)) as cluster,
        pool_of_two(cluster) as found,
    ):
        yield found


def binary_of(release: str) -> Path:
    found = picker_binary(release)
    if found is None:
        pytest.skip(f"llm-d's picker: set {LLMD_EPP} to a build of llm-d-router v0.10.0 cmd/epp")
    return found


@contextmanager
def picker(pool: Pool, release: PickerRelease, config: PickerConfig) -> Iterator[RunningPicker]:
    """The picker under its own account, whose only rights are those we render for it."""
    with running_picker(
        binary_of(release.name),
        release,
        config,
        pool=pool.name,
        namespace=pool.namespace,
        kubeconfig=pool.kubeconfigs[release.name],
    ) as found:
        yield found


@contextmanager
def router(
    pool: Pool, variant: str | PickerInputs, *, envoy_timeout_s: int = 60
) -> Iterator[tuple[RunningEnvoy, RunningPicker]]:
    """Envoy and picker as rendered, once the picker knows both pods."""
    inputs = PICKER_VARIANTS[variant] if isinstance(variant, str) else variant
    release = inputs.release
    envoy = envoy_config(
        EnvoyInputs(release=release, programs=(CODER,), request_timeout_s=envoy_timeout_s, drain_s=300)
    )
    with picker(pool, release, picker_config(inputs)) as chosen:
        wait_until(
            lambda: READY.search(chosen.metrics()) is not None,
            timeout_s=30,
            what="two ready pods in the picker",
            watch=[chosen.process],
        )
        with running(envoy, picker_port=chosen.grpc_port) as ready:
            yield ready, chosen


@pytest.mark.parametrize("variant", PICKER_VARIANTS)
def test_the_real_picker_loads_the_configuration_and_routes_by_it(pool: Pool, variant: str) -> None:
    headers = PICKER_VARIANTS[variant].release.headers
    with router(pool, variant) as (envoy, _):
        answer = envoy.post([SESSION, (headers.destination, "127.0.0.9:1"), (headers.fairness, "spoofed")])
    assert answer.code == 200, answer.body
    assert answer.arrived["served_by"] in (pool.prefill, pool.decode)
    assert answer.header(headers.destination) == [answer.arrived["served_by"]]
    assert answer.header(headers.fairness) == ["coder/s-1"]
    assert answer.header(headers.objective) == ["urgent"]
    assert answer.arrived["n_bytes"] > 1000  # the body came through both of the picker's directions


@pytest.mark.parametrize("variant", ["llm-d-aggregated", "gie-aggregated"])
def test_an_unknown_parameter_keeps_the_real_picker_from_starting(pool: Pool, variant: str) -> None:
    """What makes the test above mean something: the pickers decode strictly."""
    inputs = PICKER_VARIANTS[variant]
    bad = PickerConfig(config={**picker_config(inputs).config, "unheardOf": True}, rules=())
    with pytest.raises(StartFailed, match="unheardOf"), picker(pool, inputs.release, bad):
        pass


@pytest.mark.parametrize("file", golden_files("picker.yaml"))
def test_the_real_picker_loads_every_golden_configuration(pool: Pool, file: str) -> None:
    config = PickerConfig(config=golden_files("picker.yaml")[file], rules=())
    with picker(pool, release_of(config), config) as chosen:
        assert chosen.process.alive


@pytest.mark.parametrize("variant", ["llm-d-aggregated", "gie-aggregated"])
def test_the_objective_gives_its_priority_in_the_picker(pool: Pool, variant: str) -> None:
    with router(pool, variant) as (envoy, chosen):
        assert envoy.post([SESSION]).code == 200
        counted = [line for line in chosen.metrics().splitlines() if 'priority="7"' in line]
    assert counted


def test_a_long_prompt_is_prefilled_apart_and_a_short_one_is_not(pool: Pool) -> None:
    variant = "llm-d-disaggregated"
    headers = PICKER_VARIANTS[variant].release.headers
    assert headers.prefiller is not None
    with router(pool, variant) as (envoy, _):
        long = envoy.post([SESSION], body=turn("hello " * 2000))
        short = envoy.post([SESSION], body=turn("hello"))
    assert (long.arrived["served_by"], long.header(headers.prefiller)) == (pool.decode, [pool.prefill])
    assert (short.arrived["served_by"], short.header(headers.prefiller)) == (pool.decode, [])


@pytest.mark.parametrize(
    "path", ["/v1/messages?beta=true", "/v1/responses", "/v1/chat/completions", "/tokenize"]
)
def test_every_api_of_the_clients_gets_through_llm_ds_picker(pool: Pool, path: str) -> None:
    with router(pool, "llm-d-aggregated") as (envoy, _):
        answer = envoy.post([SESSION], path=path, body={**turn("hi"), "max_tokens": 5, "input": "hi"})
    assert (answer.code, answer.arrived["path"]) == (200, path)


def test_what_gie_lacks_is_as_its_data_says(pool: Pool) -> None:
    assert "AnthropicMessages" in PICKER_VARIANTS["gie-aggregated"].release.lacks
    with router(pool, "gie-aggregated") as (envoy, _):
        assert envoy.post([SESSION], path="/v1/messages", body=turn("hi")).code == 400


def release_of(config: PickerConfig) -> PickerRelease:
    """The release whose dialect a configuration is written in."""
    (found,) = [
        release
        for release in map(load_release, release_names())
        if release.config_api_version == config.config["apiVersion"]
    ]
    return found


def prefilled_by(envoy: RunningEnvoy, header: str) -> list[str]:
    """Where a long new prompt was prefilled; empty: where it was decoded."""
    answer = envoy.post([SESSION], body=turn(f"{uuid4()} hello " * 2000))
    assert answer.code == 200, answer.body
    return answer.header(header)


def turn(text: str) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}
