"""cluster.store: what stays after late, repeated and missing news, and how much room it takes."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving import names
from agentic_serving.cluster.kinds import DEPLOYMENT, POD, SERVICE
from agentic_serving.cluster.port import Manifest
from agentic_serving.cluster.store import ObjectStore


def pod(
    name: str = "a", *, uid: str = "u1", version: int | str = 1, namespace: str = "ns", owner: str = ""
) -> Manifest:
    labels = {names.OWNER_UID_LABEL: owner} if owner else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": str(version),
            "labels": labels,
        },
    }


def version_of(store: ObjectStore, name: str = "a") -> str | None:
    found = store.get(POD, "ns", name)
    return found["metadata"]["resourceVersion"] if found else None


@pytest.mark.parametrize(
    ("news", "changed", "then"),
    [
        (pod(version=10), True, "10"),
        (pod(version=9), False, "9"),
        (pod(version=2), False, "9"),
        (pod(uid="u2", version=2), True, "2"),
        (pod(version="opaque"), True, "opaque"),
    ],
    ids=["newer", "the same", "older", "another object of that name", "no number"],
)
def test_the_newest_of_one_object_stays(news: Manifest, changed: bool, then: str) -> None:
    store = ObjectStore()
    store.put(POD, pod(version=9))
    assert (store.put(POD, news), version_of(store)) == (changed, then)


@pytest.mark.parametrize(
    ("deletion", "removed"),
    [
        (pod(version=9), True),
        (pod(version=12), True),
        (pod(version=8), False),
        (pod(uid="u0", version=12), False),
    ],
    ids=["the same", "later", "of an earlier state", "of another object"],
)
def test_a_deletion_counts_for_the_object_it_names(deletion: Manifest, removed: bool) -> None:
    store = ObjectStore()
    store.put(POD, pod(version=9))
    assert store.remove(POD, deletion) is removed
    assert (store.get(POD, "ns", "a") is None) is removed
    assert store.remove(DEPLOYMENT, deletion) is False


def test_what_a_list_lacks_is_removed_unless_it_came_later() -> None:
    store = ObjectStore()
    for name, version in (("gone", 3), ("later", 12), ("kept", 4), ("moved", 5)):
        store.put(POD, pod(name, uid=name, version=version))
    store.put(POD, pod("elsewhere", uid="x", namespace="other"))
    store.put(SERVICE, pod("gone", uid="y"))
    replaced = store.replace(
        POD,
        "ns",
        [pod("kept", uid="kept", version=4), pod("moved", uid="moved", version=6), pod("new", uid="new")],
        "10",
    )
    assert (replaced.changed, replaced.removed) == ([("ns", "moved"), ("ns", "new")], [("ns", "gone")])
    left = [("ns", "kept"), ("ns", "later"), ("ns", "moved"), ("ns", "new"), ("other", "elsewhere")]
    assert store.keys(POD) == left
    assert store.get(SERVICE, "ns", "gone") is not None
    assert store.replace(POD, None, [], "20").removed == left


def test_children_are_found_by_their_owners_uid() -> None:
    store = ObjectStore()
    store.put(POD, pod("b", uid="b", owner="stack"))
    store.put(POD, pod("a", uid="a", owner="stack"))
    store.put(DEPLOYMENT, pod("d", uid="d", owner="stack"))
    store.put(POD, pod("other", uid="o", owner="another"))
    found = [(kind, obj["metadata"]["name"]) for kind, obj in store.owned_by("stack")]
    assert found == [(DEPLOYMENT, "d"), (POD, "a"), (POD, "b")]
    store.put(POD, pod("a", uid="a", version=2, owner="another"))
    store.remove(POD, pod("b", uid="b", version=2))
    assert [k for k, _ in store.owned_by("stack")] == [DEPLOYMENT]
    assert [o["metadata"]["name"] for _, o in store.owned_by("another", POD)] == ["a", "other"]


def test_what_is_read_is_the_callers_own() -> None:
    store = ObjectStore()
    store.put(POD, pod())
    found = store.get(POD, "ns", "a")
    assert found is not None
    found["metadata"]["name"] = "changed"
    assert store.get(POD, "ns", "a") == pod()


def test_trimmed_kinds_keep_what_the_function_keeps() -> None:
    def trim(obj: Manifest) -> Manifest:
        metadata = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
        return {"metadata": metadata}

    store = ObjectStore(trim={POD: trim})
    big = pod(owner="stack")
    big["metadata"]["managedFields"] = [{"manager": "kubelet"}]
    store.put(POD, big)
    assert store.get(POD, "ns", "a") == {"metadata": pod(owner="stack")["metadata"]}
    assert len(store.owned_by("stack")) == 1


EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 3), st.integers(1, 9), st.booleans()), max_size=20
)


@given(events=EVENTS)
def test_indexes_and_sizes_agree_whatever_happens(events: list[tuple[str, int, int, bool]]) -> None:
    store = ObjectStore()
    for name, uid, version, is_removal in events:
        obj = pod(name, uid=f"{name}{uid}", version=version, owner=f"owner{uid}")
        (store.remove if is_removal else store.put)(POD, obj)
    held = list(store.of_kind(POD))
    by_owner = [obj for n in (1, 2, 3) for _, obj in store.owned_by(f"owner{n}")]
    assert sorted(o["metadata"]["uid"] for o in by_owner) == sorted(o["metadata"]["uid"] for o in held)
    assert len(store) == len(held) == len(store.keys(POD))
    assert (store.compressed_bytes > 0) is bool(held)
    store.replace(POD, None, [])
    assert (len(store), store.compressed_bytes) == (0, 0)


def realistic_pod(n: int) -> Manifest:
    """5.3 KB of JSON, as a Pod of two containers has with its managedFields."""
    env: list[dict[str, Any]] = [{"name": f"VARIABLE_{i}", "value": f"value-{n}-{i}"} for i in range(20)]
    container = {
        "name": "engine",
        "image": f"registry.example/engine@sha256:{n:064x}",
        "env": env,
        "args": [f"--option-{i}={n * i}" for i in range(30)],
    }
    fields = {f'k:{{"name":"VARIABLE_{i}"}}': {".": {}, "f:name": {}, "f:value": {}} for i in range(20)}
    obj = pod(f"chat-{n}", uid=f"{n:032x}", version=n, owner=f"{n // 10:032x}")
    obj["metadata"]["managedFields"] = [
        {"manager": "kube-controller-manager", "fieldsV1": {"f:spec": fields}}
    ]
    obj["spec"] = {"containers": [container, {**container, "name": "sidecar"}]}
    return obj


def test_ten_thousand_objects_fit_in_tens_of_mebibytes() -> None:
    # Measured: 15 MiB (the module's docstring). The limit leaves room for less compressible objects, not for dicts.
    n_objects = 2_000
    tracemalloc.start()
    store = ObjectStore()
    for n in range(n_objects):
        store.put(POD, realistic_pod(n))
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes * (10_000 / n_objects) < 40 * 1024**2
