"""cluster.fake keeps the contract of `cluster.port`; `tests/e2e/test_cluster_contract.py` holds the real one to it."""

from collections.abc import Awaitable, Callable

import pytest

from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.port import Kind, Manifest
from tests.unit.cluster.contract import CASES, Change, Stage


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_fake(case: Callable[[Stage], Awaitable[None]]) -> None:
    cluster = FakeCluster(page_size=2)

    async def edit(kind: Kind, name: str, change: Change) -> Manifest:
        return cluster.edit(kind, "test", name, change)

    await case(Stage(cluster, "test", edit))
