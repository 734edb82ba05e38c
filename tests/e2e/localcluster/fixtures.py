"""pytest fixtures for tests on a real control plane: `pytest_plugins = ("tests.e2e.localcluster.fixtures",)`.

A session starts one control plane and shares it; each test works in a namespace of its own.
"""

import uuid
from collections.abc import Iterator

import pytest

from .cluster import Cluster
from .controlplane import ControlPlane, Options
from .faultproxy import FaultProxy
from .providers import choose, open_cluster

__all__ = ["any_cluster", "bare_api_server", "control_plane", "fault_proxy", "namespace"]


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """Everything: controllers, scheduler, kwok's nodes; no third-party CRDs until a test installs some."""
    with ControlPlane() as running:
        yield running


@pytest.fixture(scope="session")
def any_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster a developer chose (`providers.py`), for tests that need neither audit log nor restarts."""
    if choose() == "own":
        yield request.getfixturevalue("control_plane")
        return
    with open_cluster() as opened:
        yield opened


@pytest.fixture(scope="session")
def bare_api_server() -> Iterator[ControlPlane]:
    """Only etcd and the API server: for schemas, CEL rules and RBAC. Half the memory, a second sooner."""
    with ControlPlane(Options(controllers=False, pods=False)) as running:
        yield running


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace; its deletion is asked for at the end and not awaited (it takes seconds)."""
    name = control_plane.create_namespace(f"t-{uuid.uuid4().hex[:10]}")
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def fault_proxy(control_plane: ControlPlane) -> Iterator[FaultProxy]:
    """A proxy before `control_plane` that passes everything until it is given a plan."""
    with FaultProxy(control_plane) as running:
        yield running
