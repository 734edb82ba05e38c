"""Everything that is rendered is accepted by the real API server, and applying it again would change nothing."""

from collections.abc import AsyncIterator

import pytest

from agentic_serving.cluster import kinds
from agentic_serving.cluster.diff import needs_apply
from agentic_serving.cluster.kube import KubeCluster, connect
from agentic_serving.render.plan import Plan, RenderInputs, render
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.thirdparty import CRD_SETS
from tests.unit.render.builders import (
    DISAGGREGATED,
    EXAMPLE_NAMES,
    PRESETS,
    example_inputs,
    merged,
    plan_of,
    program,
)

pytest_plugins = ("tests.e2e.localcluster.fixtures",)

LONG = "a" * 63


@pytest.fixture(scope="module")
def api_server(bare_api_server: ControlPlane) -> ControlPlane:
    bare_api_server.install_third_party(*CRD_SETS)
    return bare_api_server


@pytest.fixture
async def cluster(api_server: ControlPlane) -> AsyncIterator[KubeCluster]:
    kube = await connect(str(api_server.kubeconfig), None)
    yield kube
    await kube.close()


async def settle(cluster: KubeCluster, api_server: ControlPlane, plan: Plan, namespace: str) -> list[str]:
    """Writes a plan; reasons why a second write would still change something."""
    assert plan.accepted, plan.findings
    api_server.create_namespace(namespace)
    left: list[str] = []
    for manifest in plan.manifests:
        body = {**manifest.body, "metadata": {**manifest.body["metadata"], "namespace": namespace}}
        live = await cluster.apply(kinds.of(body), body)
        reason = needs_apply(body, live)
        if reason:
            left.append(f"{manifest.key}: {reason}")
    return left


COMBINATIONS = [
    pytest.param(inputs, id=f"{example}-{preset}")
    for example in EXAMPLE_NAMES
    for preset in PRESETS
    if render(inputs := example_inputs(example, preset=preset)).accepted
]


@pytest.mark.parametrize("inputs", COMBINATIONS)
async def test_examples_on_every_preset_settle_with_one_write(
    cluster: KubeCluster, api_server: ControlPlane, inputs: RenderInputs, request: pytest.FixtureRequest
) -> None:
    namespace = f"r-{request.node.callspec.id}"[:63]
    assert await settle(cluster, api_server, render(inputs), namespace) == []


PRECISE = {"router": {"prefixRouting": "Precise", "replicas": 0}}
EDGES = {
    "long-name": plan_of(
        PRECISE,
        base=DISAGGREGATED,
        name=LONG,
        programs=(program("p" * 253, {"match": {"clients": ["Codex"]}}),),
    ),
    "longest-times": plan_of(
        {"disruption": {"drainTimeout": "99999h"}, "router": {"requestTimeout": "99999h"}}
    ),
    "shortest-times": plan_of({"disruption": {"drainTimeout": "1ms"}, "router": {"requestTimeout": "1ms"}}),
    "nothing-running": plan_of(
        merged(
            PRECISE,
            {"topology": {"disaggregated": {"prefill": {"replicas": 0}, "decode": {"replicas": 0}}}},
        ),
        base=DISAGGREGATED,
    ),
    "hostile-text": plan_of(
        {
            "engine": {
                "env": [{"name": "A", "value": "\U0001f600 {{ 7*7 }}\n---\nkind: Secret\x7f\x85\u2028\ufeff"}]
            },
            "podTemplate": {"router": {"metadata": {"annotations": {"note": "%REQ(x)% $(POD_IP) '\""}}}},
        }
    ),
    "wide": plan_of({"topology": {"aggregated": {"replicas": 1000, "parallelism": {"data": 8}}}, **PRECISE}),
}


async def test_text_arrives_as_it_was_written(cluster: KubeCluster, api_server: ControlPlane) -> None:
    """The server reads an apply as YAML, where some characters of JSON are refused and others folded."""
    text = "".join(map(chr, [*range(1, 0x100), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0x1F600]))
    metadata = {"name": "text", "namespace": api_server.create_namespace("text")}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": text}}
    live = await cluster.apply(kinds.CONFIG_MAP, body)
    assert live["data"]["key"] == text


@pytest.mark.parametrize("edge", EDGES)
async def test_edges_settle_with_one_write(cluster: KubeCluster, api_server: ControlPlane, edge: str) -> None:
    assert await settle(cluster, api_server, EDGES[edge], f"e-{edge}") == []
