"""Fixtures of the operator's end-to-end tests: one control plane for all of them, one operator per module.

Each test has a namespace of its own. Tests that change rights, CRDs or the operator itself start what they need.
"""

from collections.abc import Iterator

import pytest

from tests.e2e.apiclient import ApiClient
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.operator_process import OperatorProcess, install
from tests.e2e.world import FAST, World, fresh_world

CRD_SETS = ("gateway-api", "inference-pool", "gie-objective", "llmd-objective", "pod-monitor")


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """A control plane with everything that the operator can use, and the operator's installation."""
    with ControlPlane(Options(crds=CRD_SETS)) as running:
        install(running)
        yield running


@pytest.fixture(scope="session")
def api(plane: ControlPlane) -> Iterator[ApiClient]:
    client = ApiClient(plane, plane.admin_token)
    yield client
    client.close()


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, request: pytest.FixtureRequest) -> Iterator[OperatorProcess]:
    """An operator under its own ServiceAccount for the tests of one module, with the module's SETTINGS if it has any."""
    settings = {**FAST, **getattr(request.module, "SETTINGS", {})}
    name = str(request.module.__name__).rsplit(".", 1)[-1].removeprefix("test_")
    with OperatorProcess(plane, settings=settings, name=name) as running:
        yield running
        assert running.running, f"the operator ended by itself: {running.tail()}"


@pytest.fixture
def world(plane: ControlPlane, api: ApiClient, operator: OperatorProcess) -> Iterator[World]:
    """A fresh namespace where the module's operator works."""
    with fresh_world(plane, api, operator) as made:
        yield made
