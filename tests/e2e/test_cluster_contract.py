"""cluster.kube keeps the contract of `cluster.port` on a real API server: the cases of the fake, unchanged."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from agentic_serving.cluster.kube import KubeCluster, KubeOptions, connect
from agentic_serving.cluster.port import Kind, Manifest
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.unit.cluster.contract import CASES, Change, Stage

pytest_plugins = ("tests.e2e.localcluster.fixtures",)


@pytest.fixture
async def cluster(bare_api_server: ControlPlane) -> AsyncIterator[KubeCluster]:
    kube = await connect(str(bare_api_server.kubeconfig), None, options=KubeOptions(page_size=2))
    yield kube
    await kube.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_kube(
    case: Callable[[Stage], Awaitable[None]], cluster: KubeCluster, bare_api_server: ControlPlane
) -> None:
    namespace = case.__name__.replace("_", "-")
    await asyncio.to_thread(bare_api_server.create_namespace, namespace)

    async def edit(kind: Kind, name: str, change: Change) -> Manifest:
        """Somebody else replaces the object."""
        obj = await cluster.get(kind, namespace, name)
        change(obj)
        path = f"{kind.object_path(namespace, name)}?fieldManager=kubectl-edit"
        answer = await asyncio.to_thread(bare_api_server.request, "PUT", path, obj)
        assert answer.code == 200, answer.body
        changed: Manifest = answer.json()
        return changed

    await case(Stage(cluster, namespace, edit))
