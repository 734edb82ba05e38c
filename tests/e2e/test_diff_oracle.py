"""cluster.diff agrees with the API server itself: a reason exactly where a dry-run apply changes the object.

Every field of every kind that the operator applies is taken out, changed, emptied and reordered in turn, once in
what we want and once (by somebody else) in the live object.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest

from agentic_serving.cluster import kinds
from agentic_serving.cluster.diff import needs_apply
from agentic_serving.cluster.kube import KubeCluster, connect
from agentic_serving.cluster.port import Manifest
from agentic_serving.errors import ClusterError, NotFound
from tests.e2e.diff_objects import OBJECTS
from tests.e2e.localcluster.controlplane import ControlPlane

pytest_plugins = ("tests.e2e.localcluster.fixtures",)

CRDS = ("gateway-api", "inference-pool", "gie-objective", "pod-monitor")
NAMESPACE = "diff-oracle"

Path = tuple[str | int, ...]
#: Fields that name the object or that the server would refuse to change at all.
IDENTITY: frozenset[Path] = frozenset(
    {("apiVersion",), ("kind",), ("metadata",), ("metadata", "name"), ("metadata", "namespace")}
)
#: Something legal to put into each map that is empty in OBJECTS.
FILLINGS: dict[str | int, Manifest] = {
    "emptyDir": {"medium": "Memory"},
    "namespaceSelector": {"matchLabels": {"x": "y"}},
    "podSelector": {"matchLabels": {"x": "y"}},
    "securityContext": {"runAsUser": 1},
}


@pytest.fixture(scope="module")
def api_server(bare_api_server: ControlPlane) -> ControlPlane:
    bare_api_server.install_third_party(*CRDS)
    bare_api_server.create_namespace(NAMESPACE)
    return bare_api_server


@pytest.fixture
async def cluster(api_server: ControlPlane) -> AsyncIterator[KubeCluster]:
    kube = await connect(str(api_server.kubeconfig), None)
    yield kube
    await kube.close()


def identify(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def variants(node: Any, path: Path = ()) -> Iterator[tuple[Path, str, Any]]:  # noqa: ANN401 - JSON
    """(where, what was done, the new value there; `...` for taken out) for every node below."""
    if node == {}:
        yield path, "filled", FILLINGS[path[-1]]
    elif isinstance(node, dict):
        for name, child in node.items():
            here = (*path, name)
            if here not in IDENTITY:
                yield here, "taken out", ...
            if here not in IDENTITY or here == ("metadata",):
                yield from variants(child, here)
    elif isinstance(node, list):
        if node:
            yield path, "emptied", []
            yield path, "first dropped", node[1:]
        if len(node) > 1:
            yield path, "reversed", node[::-1]
        for i, child in enumerate(node):
            yield from variants(child, (*path, i))
    else:
        yield path, "changed", _another(node)


def _another(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else f"{value}x"


def changed(manifest: Manifest, path: Path, value: Any) -> Manifest:  # noqa: ANN401 - JSON
    twin = copy.deepcopy(manifest)
    node: Any = twin
    for step in path[:-1]:
        node = node[step]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return twin


def essence(obj: Manifest) -> bytes:
    """An object without what every write changes."""
    twin = copy.deepcopy(obj)
    for name in ("resourceVersion", "generation"):
        twin["metadata"].pop(name, None)
    for entry in twin["metadata"].get("managedFields", ()):
        entry.pop("time", None)
    return orjson.dumps(twin, option=orjson.OPT_SORT_KEYS)


@pytest.fixture(params=OBJECTS, ids=identify)
def wanted(request: pytest.FixtureRequest) -> Manifest:
    manifest: Manifest = copy.deepcopy(request.param)
    manifest["metadata"]["namespace"] = NAMESPACE
    return manifest


async def test_a_changed_wish(wanted: Manifest, cluster: KubeCluster) -> None:
    kind = kinds.of(wanted)
    live = await cluster.apply(kind, wanted)
    assert needs_apply(wanted, live) is None
    n_asked = 0
    for path, what, value in variants(wanted):
        wish = changed(wanted, path, value)
        try:
            result = await cluster.apply(kind, wish, dry_run=True)
        except ClusterError:
            continue  # not a legal object; the next one says more
        n_asked += 1
        would_change = essence(result) != essence(live)
        assert (needs_apply(wish, live) is not None) is would_change, f"{path} {what}"
    assert n_asked >= 5


async def test_somebody_elses_change(
    wanted: Manifest, cluster: KubeCluster, api_server: ControlPlane
) -> None:
    kind = kinds.of(wanted)
    path_of = kind.object_path(NAMESPACE, wanted["metadata"]["name"])
    n_asked = 0
    live = await cluster.apply(kind, wanted)
    for path, what, value in variants(wanted):
        if not _has(live, path):
            continue
        edit = changed(live, path, value)
        answer = await asyncio.to_thread(
            api_server.request, "PUT", f"{path_of}?fieldManager=kubectl-edit", edit
        )
        if answer.code != 200:
            continue
        edited: Manifest = answer.json()
        n_asked += 1
        would_change = await _would_change(cluster, wanted, edited)
        assert (needs_apply(wanted, edited) is not None) is would_change, f"{path} {what}"
        await _check_settles(cluster, wanted)
        live = await _restored(cluster, wanted)
    assert n_asked >= 3


async def _would_change(cluster: KubeCluster, wanted: Manifest, live: Manifest) -> bool:
    try:
        return essence(await cluster.apply(kinds.of(wanted), wanted, dry_run=True)) != essence(live)
    except ClusterError:
        return True  # such as a second controller in ownerReferences: refused, but surely not idle


def _has(obj: Manifest, path: Path) -> bool:
    node: Any = obj
    for step in path:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


async def _check_settles(cluster: KubeCluster, wanted: Manifest) -> None:
    """One apply is enough, whatever it found; else the operator would write for ever."""
    with suppress(ClusterError):
        assert needs_apply(wanted, await cluster.apply(kinds.of(wanted), wanted)) is None


async def _restored(cluster: KubeCluster, wanted: Manifest) -> Manifest:
    """The object afresh, without anything that others left in it."""
    kind = kinds.of(wanted)
    name = wanted["metadata"]["name"]
    found = await cluster.get(kind, NAMESPACE, name)
    await cluster.delete(kind, NAMESPACE, name, uid=found["metadata"]["uid"])
    with pytest.raises(NotFound):
        await cluster.get(kind, NAMESPACE, name)
    return await cluster.apply(kind, wanted)
