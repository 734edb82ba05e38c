"""router.pods and router.reload: what the cluster and the kubelet bring, as the scheduler sees it."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agentic_serving import names
from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.kinds import POD
from agentic_serving.errors import InvalidInput
from agentic_serving.router.config import Config
from agentic_serving.router.pods import Pods, pod_of
from agentic_serving.router.reload import ConfigFile
from agentic_serving.router.scrape import Sample
from agentic_serving.router.words import Pod

LABELS = {"app": "engine"}
CONFIG = Config(namespace="ns", stack="chat", mode="Enforce", pod_labels=LABELS)


def manifest(
    name: str = "one", *, role: str = "aggregated", ip: str = "10.0.0.1", ready: str = "True", **metadata: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ns",
            "labels": {**LABELS, names.ROLE_LABEL: role},
            **metadata,
        },
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
    }


def evicted() -> dict[str, Any]:
    obj = manifest()
    obj["status"]["conditions"].append({"type": "DisruptionTarget", "status": "True"})
    return obj


def test_a_pod_is_what_kubernetes_and_its_engine_say() -> None:
    found = pod_of(
        manifest(), 8000, {"10.0.0.1:8000": Sample(running=1, waiting=2, capacity_tokens=3)}.__getitem__
    )
    assert found == Pod(
        name="one",
        endpoint="10.0.0.1:8000",
        role="Aggregated",
        ready=True,
        capacity_tokens=3,
        running=1,
        waiting=2,
    )


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (manifest(ready="False"), (False, False)),
        (manifest(deletionTimestamp="2026-01-01T00:00:00Z"), (True, True)),
        (evicted(), (True, True)),
        (manifest(ip=""), None),
        (manifest(role="router"), None),
        ({"metadata": {"name": "bare"}}, None),
    ],
    ids=[
        "not ready",
        "deleted",
        "about to be evicted",
        "without an address",
        "of another role",
        "without anything",
    ],
)
def test_which_pods_are_there(obj: dict[str, Any], expected: tuple[bool, bool] | None) -> None:
    found = pod_of(obj, 8000, lambda _: Sample())
    assert (None if found is None else (found.ready, found.draining)) == expected


def test_an_address_of_version_6_is_bracketed() -> None:
    found = pod_of(manifest(ip="fd00::1"), 8000, lambda _: Sample())
    assert found is not None
    assert found.endpoint == "[fd00::1]:8000"


async def test_pods_that_come_and_go_are_told() -> None:
    cluster = FakeCluster()
    told: asyncio.Queue[list[Pod]] = asyncio.Queue()
    pods = Pods(cluster, CONFIG, told.put_nowait, rng=Random(1))
    following = asyncio.create_task(pods.run())
    async with asyncio.timeout(5):
        assert await told.get() == []
        assert pods.listed
        await cluster.create(POD, manifest("one"))
        while not (found := await told.get()):
            pass
    assert [pod.name for pod in found] == ["one"]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


def test_a_configuration_that_the_kubelet_replaced_is_read_again(tmp_path: Path) -> None:
    """The kubelet replaces the link beside the file, in one step."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "v2").mkdir()
    (tmp_path / "v1" / "scheduler.json").write_text(CONFIG.to_json())
    (tmp_path / "v2" / "scheduler.json").write_text(CONFIG.to_json().replace("Enforce", "Observe"))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "scheduler.json").symlink_to("..data/scheduler.json")
    file = ConfigFile(tmp_path / "scheduler.json")
    assert file.read().mode == "Enforce"
    assert file.changed() is None
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "..data")
    changed = file.changed()
    assert changed is not None
    assert changed.mode == "Observe"
    assert file.changed() is None


def test_a_configuration_that_cannot_be_used_is_refused_once(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(CONFIG.to_json())
    file = ConfigFile(path)
    file.read()
    path.write_text("{")
    with pytest.raises(InvalidInput, match="cannot be read"):
        file.changed()
    assert file.changed() is None


def test_the_policys_seconds_follow_the_time_scale(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(CONFIG.to_json())
    scaled = ConfigFile(path, time_scale=0.5).read().policy
    assert (scaled.keep_s, scaled.small_tokens) == (CONFIG.policy.keep_s / 2, CONFIG.policy.small_tokens)


def test_a_configuration_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        ConfigFile(tmp_path / "absent").read()
