"""One cluster whose pods run as processes, with the operator installed; each test module serves a stack of its own."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.e2e.apiclient import ApiClient
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.localcluster.thirdparty import CRD_SETS
from tests.e2e.operator_process import OperatorProcess, install
from tests.e2e.processnode.network import Network, unavailable
from tests.e2e.processnode.node import ProcessNode
from tests.e2e.routerkit.pickers import LLMD_EPP
from tests.e2e.world import FAST

from .clients import Caller
from .site import Site, Stack


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    reason = unavailable()
    if reason:
        pytest.skip(reason)
    with (
        ControlPlane(Options(nodes=(), crds=tuple(CRD_SETS), process_nodes=True)) as cluster,
        Network(cluster) as network,
        ProcessNode(cluster, network, env={"ENGINESIM_TIME_SCALE": "0.05"}) as node,
    ):
        install(cluster)
        api = ApiClient(cluster, cluster.admin_token)
        with OperatorProcess(cluster, settings=FAST) as operator:
            yield Site(cluster=cluster, node=node, operator=operator, api=api)
        api.close()


@pytest.fixture(scope="module", params=["gie-1.5", "llm-d-0.10"])
def stack(site: Site, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Two replicas on the CPU preset behind Envoy and a picker, Ready."""
    release = str(request.param)
    if release.startswith("llm-d") and not os.environ.get(LLMD_EPP):
        pytest.skip(f"llm-d's picker: set {LLMD_EPP} to a build of llm-d-router v0.10.0 cmd/epp")
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    site.cluster.create_namespace(namespace)
    served = Stack.serve(site, namespace, "chat", replicas=2, router={"endpointPicker": {"release": release}})
    try:
        yield served
    finally:
        site.cluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
async def caller(stack: Stack) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as http:
        yield Caller(endpoint=stack.endpoint, model=stack.model, http=http)
