"""What every `Cluster` must do: cases that run on the one in memory and, in `tests/e2e`, on a real API server."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from agentic_serving.cluster.diff import needs_apply
from agentic_serving.cluster.kinds import CONFIG_MAP, DEPLOYMENT, EVENT
from agentic_serving.cluster.port import Cluster, Kind, Manifest
from agentic_serving.errors import Conflict, NotFound

__all__ = ["CASES", "Stage"]

UNSERVED = Kind("nobody.example", "v1", "Nothing", "nothings")
WRONG_UID = "00000000-0000-4000-8000-000000000000"

Change = Callable[[Manifest], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a case plays: a cluster, a namespace of its own, and somebody else who edits there."""

    cluster: Cluster
    namespace: str
    edit: Callable[[Kind, str, Change], Awaitable[Manifest]]

    def config(
        self, name: str = "settings", *, data: dict[str, str] | None = None, **labels: str
    ) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"app": "chat", **labels}},
            "data": data or {"key": "value"},
        }

    def deployment(self) -> Manifest:
        labels = {"app": "chat"}
        container = {
            "name": "engine",
            "image": "engine:1",
            "args": ["--port", "8000"],
            "env": [{"name": "A", "value": "1"}, {"name": "EMPTY", "value": ""}],
            "ports": [{"name": "http", "containerPort": 8000}],
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "chat", "namespace": self.namespace, "labels": dict(labels)},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": dict(labels)},
                "template": {"metadata": {"labels": dict(labels)}, "spec": {"containers": [container]}},
            },
        }


def version(obj: Manifest) -> str:
    return str(obj["metadata"]["resourceVersion"])


def container(obj: Manifest) -> Manifest:
    found: Manifest = obj["spec"]["template"]["spec"]["containers"][0]
    return found


async def apply_creates_and_then_changes_nothing(stage: Stage) -> None:
    first = await stage.cluster.apply(DEPLOYMENT, stage.deployment())
    assert first["metadata"]["generation"] == 1
    again = await stage.cluster.apply(DEPLOYMENT, stage.deployment())
    assert (version(again), again["metadata"]["uid"]) == (version(first), first["metadata"]["uid"])
    assert await stage.cluster.get(DEPLOYMENT, stage.namespace, "chat") == again


async def a_field_left_out_is_removed(stage: Stage) -> None:
    await stage.cluster.apply(CONFIG_MAP, stage.config(data={"a": "1", "b": "2"}, team="x"))
    live = await stage.cluster.apply(CONFIG_MAP, stage.config(data={"b": "2"}))
    assert live["data"] == {"b": "2"}
    assert live["metadata"]["labels"] == {"app": "chat"}


async def what_others_added_stays(stage: Stage) -> None:
    await stage.cluster.apply(DEPLOYMENT, stage.deployment())

    def add(obj: Manifest) -> None:
        obj["metadata"]["annotations"] = {"note": "theirs"}
        container(obj)["env"].append({"name": "THEIRS", "value": "1"})

    edited = await stage.edit(DEPLOYMENT, "chat", add)
    wanted = stage.deployment()
    assert needs_apply(wanted, edited) is None
    container(wanted)["env"][0]["value"] = "2"
    live = await stage.cluster.apply(DEPLOYMENT, wanted)
    assert live["metadata"]["annotations"] == {"note": "theirs"}
    env = {e["name"]: e.get("value", "") for e in container(live)["env"]}
    assert env == {"A": "2", "EMPTY": "", "THEIRS": "1"}


async def what_others_changed_is_taken_back(stage: Stage) -> None:
    await stage.cluster.apply(DEPLOYMENT, stage.deployment())
    edited = await stage.edit(DEPLOYMENT, "chat", lambda obj: container(obj).update(image="theirs:2"))
    assert needs_apply(stage.deployment(), edited) is not None
    live = await stage.cluster.apply(DEPLOYMENT, stage.deployment())
    assert container(live)["image"] == "engine:1"
    assert needs_apply(stage.deployment(), live) is None


async def what_others_removed_is_put_back(stage: Stage) -> None:
    await stage.cluster.apply(DEPLOYMENT, stage.deployment())
    edited = await stage.edit(DEPLOYMENT, "chat", lambda obj: container(obj).pop("args"))
    assert needs_apply(stage.deployment(), edited) is not None
    live = await stage.cluster.apply(DEPLOYMENT, stage.deployment())
    assert container(live)["args"] == ["--port", "8000"]


async def a_list_element_left_out_is_removed(stage: Stage) -> None:
    wanted = stage.deployment()
    sidecar = {"name": "sidecar", "image": "sidecar:1"}
    wanted["spec"]["template"]["spec"]["containers"].append(sidecar)
    live = await stage.cluster.apply(DEPLOYMENT, wanted)
    assert needs_apply(wanted, live) is None
    reason = needs_apply(stage.deployment(), live)
    assert reason == "spec.template.spec.containers[name=sidecar]: no longer wanted"
    live = await stage.cluster.apply(DEPLOYMENT, stage.deployment())
    assert [c["name"] for c in live["spec"]["template"]["spec"]["containers"]] == ["engine"]


async def our_order_of_list_elements_is_kept(stage: Stage) -> None:
    await stage.cluster.apply(DEPLOYMENT, stage.deployment())
    wanted = stage.deployment()
    container(wanted)["env"].reverse()
    live = await stage.cluster.apply(DEPLOYMENT, wanted)
    assert [e["name"] for e in container(live)["env"]] == ["EMPTY", "A"]
    assert needs_apply(wanted, live) is None
    assert needs_apply(stage.deployment(), live) is not None


async def spec_and_status_are_apart(stage: Stage) -> None:
    applied = await stage.cluster.apply(DEPLOYMENT, {**stage.deployment(), "status": {"replicas": 7}})
    assert "replicas" not in (applied.get("status") or {})
    status = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat", "namespace": stage.namespace, "uid": applied["metadata"]["uid"]},
        "status": {"replicas": 3},
    }
    live = await stage.cluster.apply_status(DEPLOYMENT, status)
    assert live["status"]["replicas"] == 3
    assert live["metadata"]["generation"] == 1
    assert needs_apply(status, live, subresource="status") is None
    assert needs_apply(stage.deployment(), live) is None
    wanted = stage.deployment()
    wanted["spec"]["replicas"] = 2
    live = await stage.cluster.apply(DEPLOYMENT, wanted)
    assert (live["status"]["replicas"], live["metadata"]["generation"]) == (3, 2)


async def a_status_of_nothing_is_not_found(stage: Stage) -> None:
    with pytest.raises(NotFound):
        await stage.cluster.apply_status(DEPLOYMENT, {**stage.deployment(), "status": {"replicas": 1}})


async def a_dry_run_changes_nothing(stage: Stage) -> None:
    first = await stage.cluster.apply(CONFIG_MAP, stage.config())
    shown = await stage.cluster.apply(CONFIG_MAP, stage.config(data={"key": "other"}), dry_run=True)
    assert shown["data"] == {"key": "other"}
    assert await stage.cluster.get(CONFIG_MAP, stage.namespace, "settings") == first
    await stage.cluster.apply(CONFIG_MAP, stage.config("new"), dry_run=True)
    with pytest.raises(NotFound):
        await stage.cluster.get(CONFIG_MAP, stage.namespace, "new")


async def preconditions_stop_an_apply(stage: Stage) -> None:
    first = await stage.cluster.apply(CONFIG_MAP, stage.config())
    for stale in ({"uid": WRONG_UID}, {"resourceVersion": "1"}):
        wanted = stage.config(data={"key": "other"})
        wanted["metadata"] |= stale
        with pytest.raises(Conflict):
            await stage.cluster.apply(CONFIG_MAP, wanted)
    assert await stage.cluster.get(CONFIG_MAP, stage.namespace, "settings") == first


async def an_apply_to_a_certain_object_does_not_make_a_new_one(stage: Stage) -> None:
    wanted = stage.config()
    wanted["metadata"]["uid"] = WRONG_UID
    with pytest.raises(Conflict):
        await stage.cluster.apply(CONFIG_MAP, wanted)
    with pytest.raises(NotFound):
        await stage.cluster.get(CONFIG_MAP, stage.namespace, "settings")


async def a_status_for_an_earlier_object_of_that_name_is_refused(stage: Stage) -> None:
    await stage.cluster.apply(DEPLOYMENT, stage.deployment())
    status = {**stage.deployment(), "status": {"replicas": 1}}
    status["metadata"]["uid"] = WRONG_UID
    with pytest.raises(Conflict):
        await stage.cluster.apply_status(DEPLOYMENT, status)


async def create_never_overwrites(stage: Stage) -> None:
    await stage.cluster.create(CONFIG_MAP, stage.config())
    with pytest.raises(Conflict) as caught:
        await stage.cluster.create(CONFIG_MAP, stage.config(data={"key": "other"}))
    assert caught.value.reason == "AlreadyExists"


async def create_makes_up_a_name(stage: Stage) -> None:
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": "chat-", "namespace": stage.namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "agentic-serving.dev/operator",
        "reportingInstance": "operator-0",
        "action": "Apply",
        "reason": "Applied",
        "type": "Normal",
        "regarding": {"kind": "ConfigMap", "namespace": stage.namespace, "name": "settings"},
    }
    names = {(await stage.cluster.create(EVENT, event))["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("chat-") for name in names)


async def delete_takes_only_the_object_meant(stage: Stage) -> None:
    live = await stage.cluster.apply(CONFIG_MAP, stage.config())
    uid = live["metadata"]["uid"]
    with pytest.raises(Conflict):
        await stage.cluster.delete(CONFIG_MAP, stage.namespace, "settings", uid=WRONG_UID)
    with pytest.raises(Conflict):
        await stage.cluster.delete(CONFIG_MAP, stage.namespace, "settings", uid=uid, resource_version="1")
    assert version(await stage.cluster.get(CONFIG_MAP, stage.namespace, "settings")) == version(live)
    await stage.cluster.delete(
        CONFIG_MAP, stage.namespace, "settings", uid=uid, resource_version=version(live)
    )
    with pytest.raises(NotFound):
        await stage.cluster.delete(CONFIG_MAP, stage.namespace, "settings", uid=uid)


async def what_is_missing_is_told_from_what_is_not_served(stage: Stage) -> None:
    with pytest.raises(NotFound) as missing:
        await stage.cluster.get(CONFIG_MAP, stage.namespace, "nothing")
    with pytest.raises(NotFound) as unserved:
        await stage.cluster.get(UNSERVED, stage.namespace, "nothing")
    assert (missing.value.reason, unserved.value.reason) == ("NotFound", "")


async def lists_select_by_label(stage: Stage) -> None:
    for name, team in (("a", "x"), ("b", "y"), ("c", "x")):
        await stage.cluster.apply(CONFIG_MAP, stage.config(name, team=team))
    found = await stage.cluster.list(CONFIG_MAP, stage.namespace, label_selector="app=chat,team in (x)")
    assert [item["metadata"]["name"] for item in found.items] == ["a", "c"]
    assert {(item["apiVersion"], item["kind"]) for item in found.items} == {("v1", "ConfigMap")}
    assert found.items[0] == await stage.cluster.get(CONFIG_MAP, stage.namespace, "a")
    assert int(found.resource_version) >= max(int(version(item)) for item in found.items)


async def pages_agree_on_one_version(stage: Stage) -> None:
    for n in range(5):
        await stage.cluster.apply(CONFIG_MAP, stage.config(f"page-{n}"))
    pages = []
    async for page in stage.cluster.pages(CONFIG_MAP, stage.namespace, label_selector="app"):
        pages.append(page)
        if len(pages) == 1:
            await stage.cluster.apply(CONFIG_MAP, stage.config("page-9"))
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert len({page.resource_version for page in pages}) == 1


async def an_empty_list_has_one_page(stage: Stage) -> None:
    pages = [
        page async for page in stage.cluster.pages(CONFIG_MAP, stage.namespace, label_selector="app=none")
    ]
    assert [page.items for page in pages] == [[]]
    assert pages[0].resource_version


async def a_watch_tells_what_happened_since(stage: Stage) -> None:
    await stage.cluster.apply(CONFIG_MAP, stage.config("before"))
    listing = await stage.cluster.list(CONFIG_MAP, stage.namespace, label_selector="team=x")
    made = await stage.cluster.apply(CONFIG_MAP, stage.config("made", team="x"))
    await stage.cluster.apply(CONFIG_MAP, stage.config("other", team="y"))
    await stage.cluster.apply(CONFIG_MAP, stage.config("made", team="x", data={"key": "new"}))
    left = await stage.cluster.apply(CONFIG_MAP, stage.config("made", team="y", data={"key": "new"}))
    await stage.cluster.apply(CONFIG_MAP, stage.config("made", team="x", data={"key": "new"}))
    await stage.cluster.delete(CONFIG_MAP, stage.namespace, "made", uid=made["metadata"]["uid"])
    watch = stage.cluster.watch(
        CONFIG_MAP, stage.namespace, label_selector="team=x", resource_version=listing.resource_version
    )
    seen = []
    async with aclosing(watch) as events, asyncio.timeout(20):
        async for event in events:
            if event.happened != "BOOKMARK":
                seen.append(event)
            if len(seen) == 5:
                break
    assert [event.happened for event in seen] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
    assert {event.object["metadata"]["name"] for event in seen} == {"made"}
    assert seen[0].object == made
    assert seen[2].resource_version == version(left), "a later watch goes on from there"


async def a_watch_waits_for_what_comes(stage: Stage) -> None:
    listing = await stage.cluster.list(CONFIG_MAP, stage.namespace)
    watch = stage.cluster.watch(CONFIG_MAP, stage.namespace, resource_version=listing.resource_version)
    async with aclosing(watch) as events, asyncio.timeout(20):
        waiting = asyncio.ensure_future(anext(events))
        made = await stage.cluster.apply(CONFIG_MAP, stage.config())
        assert (await waiting).object == made


async def a_watch_of_what_is_not_served_is_not_found(stage: Stage) -> None:
    async with aclosing(stage.cluster.watch(UNSERVED, stage.namespace, resource_version="1")) as events:
        with pytest.raises(NotFound):
            await anext(events)


async def discovery_tells_what_is_served(stage: Stage) -> None:
    served = await stage.cluster.served()
    assert DEPLOYMENT.gvk in served
    assert UNSERVED.gvk not in served


#: Every case; a page holds two objects.
CASES: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    apply_creates_and_then_changes_nothing,
    a_field_left_out_is_removed,
    what_others_added_stays,
    what_others_changed_is_taken_back,
    what_others_removed_is_put_back,
    a_list_element_left_out_is_removed,
    our_order_of_list_elements_is_kept,
    spec_and_status_are_apart,
    a_status_of_nothing_is_not_found,
    a_dry_run_changes_nothing,
    preconditions_stop_an_apply,
    an_apply_to_a_certain_object_does_not_make_a_new_one,
    a_status_for_an_earlier_object_of_that_name_is_refused,
    create_never_overwrites,
    create_makes_up_a_name,
    delete_takes_only_the_object_meant,
    what_is_missing_is_told_from_what_is_not_served,
    lists_select_by_label,
    pages_agree_on_one_version,
    an_empty_list_has_one_page,
    a_watch_tells_what_happened_since,
    a_watch_waits_for_what_comes,
    a_watch_of_what_is_not_served_is_not_found,
    discovery_tells_what_is_served,
)
