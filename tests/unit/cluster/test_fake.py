"""cluster.fake: what only tests ask of it: failures on demand, other people's doings, events, garbage."""

from collections.abc import Awaitable, Callable

import pytest

from agentic_serving import names
from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.kinds import CONFIG_MAP, DEPLOYMENT, POD_MONITOR, SERVICE, STACK
from agentic_serving.cluster.port import Manifest
from agentic_serving.cluster.selectors import matches
from agentic_serving.errors import Conflict, NotFound, Rejected, Unavailable

GONE = Unavailable("connection reset")


def config(name: str = "a", *, owner_uid: str = "", **data: str) -> Manifest:
    metadata: Manifest = {"name": name, "namespace": "ns"}
    if owner_uid:
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner_uid}
        metadata["ownerReferences"] = [reference]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


@pytest.mark.parametrize(
    ("after_effect", "is_there"), [(False, False), (True, True)], ids=["before", "after"]
)
async def test_a_failure_strikes_before_or_after_the_effect(after_effect: bool, is_there: bool) -> None:
    cluster = FakeCluster()
    cluster.fail_next(GONE, verb="apply", after_effect=after_effect)
    with pytest.raises(Unavailable):
        await cluster.apply(CONFIG_MAP, config())
    assert (cluster.peek(CONFIG_MAP, "ns", "a") is not None) is is_there
    await cluster.apply(CONFIG_MAP, config())


async def test_a_failure_strikes_the_call_it_is_meant_for() -> None:
    cluster = FakeCluster()
    await cluster.apply(CONFIG_MAP, config())
    cluster.fail_at(1, GONE)
    cluster.fail_next(Conflict("busy"), verb="apply", name="c", times=2)
    await cluster.apply(CONFIG_MAP, config())
    with pytest.raises(Unavailable):
        await cluster.apply(CONFIG_MAP, config())
    for _ in range(2):
        with pytest.raises(Conflict):
            await cluster.apply(CONFIG_MAP, config("c"))
    await cluster.apply(CONFIG_MAP, config("c"))
    assert [call.name for call in cluster.calls] == ["a", "a", "a", "c", "c", "c"]


async def test_healing_forgets_every_failure() -> None:
    cluster = FakeCluster()
    cluster.fail_next(GONE, times=9)
    cluster.heal()
    await cluster.apply(CONFIG_MAP, config())


async def test_only_requests_that_may_change_something_count_as_writes() -> None:
    cluster = FakeCluster()
    await cluster.apply(CONFIG_MAP, config(), dry_run=True)
    live = await cluster.apply(CONFIG_MAP, config())
    await cluster.get(CONFIG_MAP, "ns", "a")
    await cluster.list(CONFIG_MAP)
    await cluster.served()
    await cluster.delete(CONFIG_MAP, "ns", "a", uid=live["metadata"]["uid"])
    assert [call.verb for call in cluster.writes] == ["apply", "delete"]
    assert cluster.writes[0].manifest == config()


async def test_a_kind_can_be_missing_and_be_installed_later() -> None:
    cluster = FakeCluster(served=[CONFIG_MAP])
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: cluster.list(POD_MONITOR),
        lambda: cluster.get(POD_MONITOR, "ns", "a"),
        lambda: cluster.apply(POD_MONITOR, {**config(), "kind": "PodMonitor"}),
    ]
    for call in calls:
        with pytest.raises(NotFound) as caught:
            await call()
        assert caught.value.reason == ""
    cluster.serve(POD_MONITOR)
    assert (await cluster.list(POD_MONITOR)).items == []
    assert POD_MONITOR.gvk in await cluster.served()


async def test_subscribers_hear_of_every_change_and_of_nothing_else() -> None:
    cluster = FakeCluster()
    heard: list[tuple[str, str]] = []
    cluster.subscribe(lambda event, kind, obj: heard.append((event, f"{kind} {obj['metadata']['name']}")))
    await cluster.apply(CONFIG_MAP, config())
    await cluster.apply(CONFIG_MAP, config())
    cluster.edit(CONFIG_MAP, "ns", "a", lambda obj: obj.update(data={"x": "1"}))
    cluster.edit(CONFIG_MAP, "ns", "a", lambda obj: obj.update(data={"x": "1"}))
    cluster.drop(CONFIG_MAP, "ns", "a")
    assert heard == [("ADDED", "configmaps a"), ("MODIFIED", "configmaps a"), ("DELETED", "configmaps a")]


async def test_garbage_goes_level_by_level_and_nothing_else_goes() -> None:
    cluster = FakeCluster()
    root = cluster.seed(CONFIG_MAP, config("root"))
    child = cluster.seed(CONFIG_MAP, config("child", owner_uid=root["metadata"]["uid"]))
    cluster.seed(CONFIG_MAP, config("grandchild", owner_uid=child["metadata"]["uid"]))
    cluster.seed(CONFIG_MAP, config("orphan-by-name-only"))
    assert cluster.collect_garbage() == []
    cluster.drop(CONFIG_MAP, "ns", "root")
    assert [name for _, _, name in cluster.collect_garbage()] == ["child", "grandchild"]
    assert [obj["metadata"]["name"] for obj in cluster.objects()] == ["orphan-by-name-only"]


async def test_an_object_with_a_finalizer_waits_for_it() -> None:
    cluster = FakeCluster()
    obj = config()
    obj["metadata"]["finalizers"] = ["theirs.example/wait"]
    cluster.seed(CONFIG_MAP, obj)
    cluster.drop(CONFIG_MAP, "ns", "a")
    waiting = cluster.peek(CONFIG_MAP, "ns", "a")
    assert waiting is not None
    assert waiting["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"
    cluster.edit(CONFIG_MAP, "ns", "a", lambda found: found["metadata"].pop("finalizers"))
    assert cluster.peek(CONFIG_MAP, "ns", "a") is None


async def test_a_forced_apply_takes_over_what_somebody_else_created() -> None:
    cluster = FakeCluster()
    cluster.seed(CONFIG_MAP, config(ours="theirs", theirs="1"))
    live = await cluster.apply(CONFIG_MAP, config(ours="1"))
    assert live["data"] == {"ours": "1", "theirs": "1"}
    owners = {entry["manager"]: entry["fieldsV1"] for entry in live["metadata"]["managedFields"]}
    assert owners[names.FIELD_MANAGER] == {"f:data": {"f:ours": {}}}
    assert owners["kubectl"] == {"f:data": {"f:theirs": {}}}
    live = await cluster.apply(CONFIG_MAP, config())
    assert live["data"] == {"theirs": "1"}


async def test_an_element_owned_by_another_too_survives_us() -> None:
    cluster = FakeCluster()
    service: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "ns"},
        "spec": {"ports": [{"port": 80}, {"port": 81}]},
    }
    await cluster.apply(SERVICE, service)
    cluster.edit(SERVICE, "ns", "s", lambda obj: obj["spec"]["ports"][1].update(name="theirs"))
    live = await cluster.apply(SERVICE, {**service, "spec": {"ports": [{"port": 80}]}})
    assert live["spec"]["ports"][0] == {"port": 80}
    assert [port.get("name") for port in live["spec"]["ports"]] == [None, "theirs"]


async def test_a_recreated_object_has_another_uid() -> None:
    cluster = FakeCluster()
    first = cluster.seed(STACK, {**config(), "kind": "AgenticServingStack", "spec": {}})
    cluster.drop(STACK, "ns", "a")
    second = cluster.seed(STACK, {**config(), "kind": "AgenticServingStack", "spec": {}})
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    with pytest.raises(Conflict):
        await cluster.delete(STACK, "ns", "a", uid=first["metadata"]["uid"])


async def test_generation_counts_changes_of_the_spec_only() -> None:
    cluster = FakeCluster()
    cluster.seed(DEPLOYMENT, {**config(), "kind": "Deployment", "spec": {"replicas": 1}})
    steps: list[tuple[Callable[[Manifest], None], int]] = [
        (lambda obj: obj.update(status={"replicas": 1}), 1),
        (lambda obj: obj["metadata"].update(labels={"x": "y"}), 1),
        (lambda obj: obj["spec"].update(replicas=2), 2),
    ]
    for change, generation in steps:
        assert cluster.edit(DEPLOYMENT, "ns", "a", change)["metadata"]["generation"] == generation


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app=chat", True),
        ("app==chat", True),
        ("app=other", False),
        ("app!=other", True),
        ("team!=x", True),
        ("app", True),
        ("team", False),
        ("!team", True),
        ("app in (a, chat)", True),
        ("app notin (a,chat)", False),
        ("team notin (x)", True),
        ("app=chat,team=x", False),
        ("example.dev/role=decode,app in (chat,b)", True),
    ],
)
def test_selectors(selector: str, expected: bool) -> None:
    assert matches(selector, {"app": "chat", "example.dev/role": "decode"}) is expected


def test_a_selector_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(Rejected, match="unable to parse"):
        matches("a=b=c", {})
