"""One control plane with the operator installed for all tests of this folder; each works in a namespace of its own."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.apiclient import ApiClient
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.localcluster.faultproxy import FaultProxy
from tests.e2e.localcluster.process import wait_until
from tests.e2e.localcluster.thirdparty import CRD_SETS
from tests.e2e.operator_process import install
from tests.e2e.world import World

from .operators import FAST, ForkServer, Operator
from .snapshots import CHILDREN, OWN


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(Options(crds=tuple(CRD_SETS))) as running:
        install(running)
        _wait_served(running)
        yield running


def _wait_served(plane: ControlPlane) -> None:
    """A new CRD's objects can be read a second or two after it is Established; until then the server answers 429."""
    for kind in (*OWN, *CHILDREN):
        path = kind.collection_path(None)
        wait_until(lambda path=path: plane.request("GET", path).code == 200, timeout_s=30, what=path)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


@pytest.fixture
def proxy(plane: ControlPlane) -> Iterator[FaultProxy]:
    """A proxy that passes everything until it is given a plan."""
    with FaultProxy(plane) as running:
        yield running


@pytest.fixture
def api(plane: ControlPlane) -> Iterator[ApiClient]:
    client = ApiClient(plane, plane.admin_token)
    yield client
    client.close()


@pytest.fixture
def hire(
    plane: ControlPlane, forks: ForkServer, api: ApiClient, proxy: FaultProxy, team: str
) -> Iterator[Callable[..., World]]:
    """Starts an operator behind `proxy` that works in `team` only and answers quickly: `hire(resync_s=2)`."""
    with ExitStack() as stack:

        def start(**settings: object) -> World:
            operator = Operator(
                forks, plane, via=proxy, **{**FAST, "namespaces": [team], "lease_name": team, **settings}
            )
            stack.callback(operator.kill)
            operator.start()
            return World(cluster=plane, operator=operator, namespace=team, api=api)

        yield start


@pytest.fixture
def team(api: ApiClient) -> Iterator[str]:
    """A fresh namespace; its deletion is asked for at the end and not awaited."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    api.call("DELETE", f"/api/v1/namespaces/{name}")
