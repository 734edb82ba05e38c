"""The scheduler's words in front of the real endpoint pickers, on a real API server."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentic_serving.render.envoy import envoy_config
from agentic_serving.render.picker import picker_config
from agentic_serving.render.releases import load_release
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.localcluster.process import Workplace, free_ports, wait_until
from tests.e2e.router.conftest import INPUTS
from tests.e2e.routerkit.envoys import RunningEnvoy, running
from tests.e2e.routerkit.pickers import LLMD_EPP, picker_binary, running_picker
from tests.e2e.routerkit.pools import Pool, pool_of_two
from tests.e2e.routerkit.scripted import start
from tests.e2e.routerkit.variants import PICKER_VARIANTS

READY = re.compile(r"^\w+_ready_(?:pods|endpoints)\{.*\} 2$", re.MULTILINE)
CLAUDE = ("X-Claude-Code-Session-Id", "c-1")


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    crds = ("inference-pool", "gie-objective", "llmd-objective")
    with (
        ControlPlane(Options(controllers=False, pods=False, crds=crds)) as cluster,
        pool_of_two(cluster) as found,
    ):
        yield found


@pytest.fixture(scope="module", params=["gie-1.5", "llm-d-0.10"])
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def envoy(release: str, pool: Pool) -> Iterator[RunningEnvoy]:
    binary = picker_binary(release)
    if binary is None:
        pytest.skip(f"llm-d's picker: set {LLMD_EPP} to a build of llm-d-router v0.10.0 cmd/epp")
    with chain_with_picker(pool, release, binary) as found:
        yield found


@contextmanager
def chain_with_picker(pool: Pool, name: str, binary: Path) -> Iterator[RunningEnvoy]:
    release = load_release(name)
    variant = PICKER_VARIANTS["llm-d-aggregated" if name.startswith("llm-d") else "gie-aggregated"]
    kubeconfig = pool.kubeconfigs[name]
    rendered = envoy_config(replace(INPUTS, release=release, request_timeout_s=60))
    with (
        Workplace("agentic-scheduler-") as place,
        running_picker(
            binary,
            release,
            picker_config(variant),
            pool=pool.name,
            namespace=pool.namespace,
            kubeconfig=kubeconfig,
        ) as picker,
    ):
        (port,) = free_ports(1)
        start(place, port)
        wait_until(
            lambda: READY.search(picker.metrics()) is not None, timeout_s=30, what="the pods in the picker"
        )
        with running(rendered, picker_port=picker.grpc_port, scheduler_port=port) as found:
            yield found


def test_the_picker_takes_one_of_the_pods_that_the_scheduler_names(envoy: RunningEnvoy, pool: Pool) -> None:
    for endpoint in (pool.prefill, pool.decode) * 3:
        answer = envoy.post([CLAUDE, ("x-test-endpoints", endpoint)])
        assert (answer.code, answer.arrived["served_by"]) == (200, endpoint)


def test_without_a_hint_the_picker_chooses(envoy: RunningEnvoy, pool: Pool) -> None:
    answer = envoy.post([CLAUDE])
    assert answer.code == 200
    assert answer.arrived["served_by"] in (pool.prefill, pool.decode)


def test_a_held_call_is_hinted_too(envoy: RunningEnvoy, pool: Pool) -> None:
    answer = envoy.post([CLAUDE, ("x-test-hold-s", "1.2"), ("x-test-endpoints", pool.decode)])
    assert (answer.code, answer.arrived["served_by"]) == (200, pool.decode)


def test_a_client_cannot_give_the_hint_itself(envoy: RunningEnvoy, pool: Pool) -> None:
    """The picker reads the hint from metadata only, which no header becomes."""
    forged = ("x-gateway-destination-endpoint-subset", "127.0.0.9:1")
    assert envoy.post([CLAUDE, forged]).code == 200


@pytest.mark.parametrize("n_bytes", [3_000_000, 7_000_000, 30_000_000], ids=["3MB", "7MB", "30MB"])
def test_a_large_body_reaches_the_pod_whole(envoy: RunningEnvoy, n_bytes: int) -> None:
    """In pieces: upstream's picker takes no message of more than 4 MiB, its gRPC library's default."""
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * n_bytes}]}
    answer = envoy.post([CLAUDE], body=body)
    assert (answer.code, answer.arrived["n_bytes"] > n_bytes) == (200, True)


def test_a_rewritten_body_reaches_the_pod_whole(envoy: RunningEnvoy) -> None:
    text = '{"messages":[{"content":"hi","role":"user"}],"model":"m","priority":3}'  # as the picker writes it again
    answer = envoy.post([CLAUDE, ("x-test-body", text)])
    assert (answer.code, answer.arrived["n_bytes"]) == (200, len(text))


def test_a_hint_that_no_longer_holds_costs_no_request(envoy: RunningEnvoy, pool: Pool) -> None:
    """The pod left the pool between the scheduler's word and the picker's."""
    answers = [envoy.post([CLAUDE, ("x-test-endpoints", "127.0.0.9:8000")]) for _ in range(5)]
    assert [answer.code for answer in answers] == [200] * 5
    assert {answer.arrived["served_by"] for answer in answers} <= {pool.prefill, pool.decode}
    (tried_id,) = answers[-1].header("x-request-id")
    call_id = tried_id.removesuffix("-2")
    assert call_id != tried_id  # pickers and engines keep accounts by it
    wait_until(lambda: any(of_call(envoy, call_id)), timeout_s=10, what="the log")
    (line,) = of_call(envoy, call_id)
    assert (line["attempts"], line["code"], line["pod"]) == (2, 200, answers[-1].arrived["served_by"])


def of_call(envoy: RunningEnvoy, call_id: str) -> list[dict[str, Any]]:
    return [line for line in envoy.log_lines() if line["request_id"] == call_id]


def test_a_pod_that_refuses_connections_costs_no_request(envoy: RunningEnvoy, pool: Pool) -> None:
    """It died, and neither scheduler nor picker knows yet."""
    with pool.dead_pod() as dead:
        hints = [CLAUDE, ("x-test-endpoints", dead), ("x-test-others", f"{pool.decode},{pool.prefill}")]
        wait_until(lambda: refused(envoy, hints), timeout_s=30, what="the dead pod in the picker")
        answers = [envoy.post(hints) for _ in range(20)]
    assert [answer.code for answer in answers] == [200] * 20


def refused(envoy: RunningEnvoy, headers: list[tuple[str, str]]) -> bool:
    """Whether a request with these headers met a pod that refused it, however it was answered."""
    name = 'envoy_cluster_upstream_cx_connect_fail{envoy_cluster_name="engine"}'

    def failed() -> int:
        lines = envoy.get("/metrics", port=envoy.ready_port).body.decode().splitlines()
        return sum(int(line.split()[-1]) for line in lines if line.startswith(name))

    before = failed()
    envoy.post(headers)
    return failed() > before
