"""Gateway mode: the route that the API server accepts leads to a Service that answers."""

import asyncio
import uuid
from collections.abc import Iterator

import aiohttp
import pytest

from agentic_serving.cluster import kinds

from .clients import Caller
from .site import Site, Stack

_HOST = "chat.example.com"


@pytest.fixture
def routed(site: Site) -> Iterator[Stack]:
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    site.cluster.create_namespace(namespace)
    gateway = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "public"},
        "spec": {
            "gatewayClassName": "any",
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
    }
    site.cluster.apply([gateway], namespace=namespace)
    router = {
        "mode": "Gateway",
        "gateway": {"parentRefs": [{"name": "public"}], "hostnames": [_HOST]},
        "endpointPicker": {"release": "gie-1.5"},
    }
    try:
        # No implementation of Gateway API runs here, so nobody accepts the route and the stack says so.
        yield Stack.serve(site, namespace, "chat", replicas=1, until=("Available", "True"), router=router)
    finally:
        site.cluster.kubectl("delete", "namespace", namespace, "--wait=false")


async def test_the_route_leads_to_a_service_that_answers(site: Site, routed: Stack) -> None:
    route = await asyncio.to_thread(site.api.get, kinds.HTTP_ROUTE, routed.namespace, "chat")
    assert route["spec"]["hostnames"] == [_HOST]
    assert [p["name"] for p in route["spec"]["parentRefs"]] == ["public"]
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    service = await asyncio.to_thread(site.api.get, kinds.SERVICE, routed.namespace, backend["name"])
    assert backend["port"] in {p["port"] for p in service["spec"]["ports"]}
    endpoint = f"http://{service['spec']['clusterIP']}:{backend['port']}"
    async with aiohttp.ClientSession() as http:
        answer = await Caller(endpoint=endpoint, model=routed.model, http=http).chat(
            [{"role": "user", "content": "hello"}], headers={"host": _HOST}
        )
    assert answer.ok, answer
