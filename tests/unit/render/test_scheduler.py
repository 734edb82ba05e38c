"""render.scheduler: one queue, one configuration that the scheduler reads, and what reaches running pods."""

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from agentic_serving import names
from agentic_serving.program.policy import Policy
from agentic_serving.render.inputs import RenderInputs
from agentic_serving.render.plan import Plan, render
from agentic_serving.router.config import CacheEvents, Config, Program, Valkey
from tests.unit.render.builders import (
    AGGREGATED,
    DISAGGREGATED,
    merged,
    plan_of,
    program,
    stack,
)

MODES = ("Enforce", "Observe", "Off")
RELEASES = ("llm-d-0.10", "gie-1.5")
REVIEW = program(
    "review",
    {
        "match": {"clients": ["Codex"], "headers": [{"name": "x-team", "value": "a"}]},
        "identity": {"headers": {"session": "x-run", "parent": "x-parent"}, "idleTimeout": "5m"},
        "objective": {
            "priority": 3,
            "maxHold": "90s",
            "completion": {"percentile": "P90", "target": "10m", "unit": "Run"},
            "firstTokenAfterTool": {"percentile": "P50", "target": "1s500ms"},
        },
    },
)
PRECISE = {"router": {"prefixRouting": "Precise"}}
PLAIN = program("plain", {"match": {"clients": ["ClaudeCode"]}})


def files(plan: Plan) -> Mapping[str, str]:
    assert plan.accepted, plan.findings
    (data,) = [
        m.body["data"] for m in plan.manifests if m.key[1:] == ("ConfigMap", plan.roles[-1].deployment)
    ]
    found: Mapping[str, str] = data
    return found


def router_pod(plan: Plan) -> Mapping[str, Any]:
    (body,) = [m.body for m in plan.manifests if m.key[1:] == ("Deployment", plan.roles[-1].deployment)]
    template: Mapping[str, Any] = body["spec"]["template"]
    return template


def config_hash(plan: Plan) -> str:
    annotations: Mapping[str, str] = router_pod(plan)["metadata"]["annotations"]
    return annotations[names.CONFIG_HASH_ANNOTATION]


def containers(plan: Plan) -> dict[str, Any]:
    return {one["name"]: one for one in router_pod(plan)["spec"]["containers"]}


def scheduling(mode: str, **more: Any) -> dict[str, Any]:
    return {"programScheduling": {"mode": mode}, **more}


def combinations() -> list[Any]:
    """Every mode with everything that changes the picker's configuration."""
    return [
        pytest.param(
            base,
            scheduling(mode, router={"endpointPicker": {"release": release}, **router}),
            id="-".join([mode, release, kind, *map(str, router.values())]),
        )
        for mode, release, (kind, base), router in itertools.product(
            MODES,
            RELEASES,
            (("aggregated", AGGREGATED), ("apart", DISAGGREGATED)),
            ({}, {"replicas": 2}, {"prefixRouting": "Precise"}, {"prefixRouting": "Precise", "replicas": 2}),
        )
    ]


@pytest.mark.parametrize(("base", "patch"), combinations())
def test_there_is_one_queue(base: Mapping[str, Any], patch: Mapping[str, Any]) -> None:
    plan = plan_of(patch, base=base, programs=(REVIEW,))
    if not plan.accepted:
        assert plan.manifests == ()
        return
    picker, envoy = (yaml.safe_load(files(plan)[name]) for name in ("picker.yaml", "envoy.yaml"))
    gate = "flowControl" in picker["featureGates"]
    holds = (
        "scheduler.json" in files(plan) and Config.from_json(files(plan)["scheduler.json"]).mode == "Enforce"
    )
    assert gate is not holds
    assert ("defaultRequestTTL" in picker.get("flowControl", {})) is gate
    asked = any(cluster["name"] == "scheduler" for cluster in envoy["static_resources"]["clusters"])
    assert asked == ("scheduler" in containers(plan)) == ("scheduler.json" in files(plan))
    assert asked == (patch["programScheduling"]["mode"] != "Off")


def test_the_scheduler_reads_what_the_spec_says() -> None:
    patch = scheduling("Enforce", router={"prefixRouting": "Precise", "replicas": 2, "requestTimeout": "1h"})
    state = {"backend": "Valkey", "valkey": {"address": "v.data.svc:6379", "tls": "Enabled"}}
    text = files(plan_of(merged(patch, {"programScheduling": {"state": state}}), programs=(PLAIN, REVIEW)))
    config = Config.from_json(text["scheduler.json"])
    one, other = config.programs
    assert one == Program(
        route=one.route,
        priority=3,
        max_hold_s=90.0,
        idle_s=300.0,
        completion_s=600.0,
        completion_percent=90.0,
        unit="Run",
        first_token_s=1.5,
        first_token_percent=50.0,
    )
    assert (one.route.key, one.route.session_header) == ("ns/review", "x-run")
    assert [(header.name, header.value) for header in one.route.headers] == [("x-team", "a")]
    assert other == Program(route=other.route)
    assert (config.namespace, config.stack, config.mode) == ("ns", "chat", "Enforce")
    assert (config.router_replicas, config.request_timeout_s, config.precise) == (2, 3600.0, True)
    assert config.valkey == Valkey(address="v.data.svc:6379", tls=True)
    assert config.picker_headers["fairness"] == "x-llm-d-inference-fairness-id"
    assert config.capacity_tokens
    assert config.policy == Policy()


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (plan_of(), None),
        (plan_of(PRECISE), CacheEvents()),
        (
            plan_of(merged(PRECISE, {"topology": {"aggregated": {"parallelism": {"data": 2}}}})),
            CacheEvents(ranks=2),
        ),
        (
            plan_of(PRECISE, tiers={"hostMemory": {"backend": "Native", "capacityPerReplica": "10Gi"}}),
            CacheEvents(loads=True),
        ),
        (plan_of(PRECISE, base=DISAGGREGATED), CacheEvents(loads=True)),
    ],
    ids=["approximate", "precise", "data-parallel", "host tier", "apart"],
)
def test_the_scheduler_listens_where_engines_publish(plan: Plan, expected: CacheEvents | None) -> None:
    assert Config.from_json(files(plan)["scheduler.json"]).cache_events == expected
    published = re.findall(r"--kv-events-config=(\S+)", " ".join(engine_arguments(plan)))
    assert bool(published) is (expected is not None)
    for text in published:
        assert expected is not None
        said = json.loads(text)
        assert said["endpoint"] == f"tcp://*:{expected.port}"
        assert said["topic"].startswith(expected.topic)


def engine_arguments(plan: Plan) -> list[str]:
    """Of all engine containers."""
    pods = [m.body["spec"]["template"]["spec"] for m in plan.manifests if m.key[1] == "Deployment"]
    found = [one for pod in pods for one in pod["containers"] if one["name"] == "engine"]
    return [str(text) for one in found for text in (*one.get("command", ()), *one.get("args", ()))]


@pytest.mark.parametrize("step", [None, 2048, 8192, 32768])
def test_parameters_follow_the_engines_step(step: int | None) -> None:
    args = [] if step is None else [f"--max-num-batched-tokens={step}"]
    config = Config.from_json(files(plan_of({"engine": {"args": args}}))["scheduler.json"])
    assert config.policy == Policy.for_step(step or 8192)


def test_every_key_that_is_written_is_known_to_the_scheduler() -> None:
    written = yaml.safe_load(files(plan_of(programs=(REVIEW,)))["scheduler.json"])
    known = yaml.safe_load(Config.from_json(files(plan_of(programs=(REVIEW,)))["scheduler.json"]).to_json())
    assert set(written) <= set(known)
    for mine, theirs in zip(written["programs"], known["programs"], strict=True):
        assert set(mine) <= set(theirs)
        assert mine["route"] == theirs["route"]


@pytest.mark.parametrize("base", [AGGREGATED, DISAGGREGATED], ids=["aggregated", "apart"])
def test_the_scheduler_finds_the_engine_pods_and_no_other(base: Mapping[str, Any]) -> None:
    plan = plan_of(base=base)
    wanted = Config.from_json(files(plan)["scheduler.json"]).pod_labels.items()
    pods = {
        m.key[2]: m.body["spec"]["template"]["metadata"]["labels"]
        for m in plan.manifests
        if m.key[1] == "Deployment"
    }
    found = {name for name, labels in pods.items() if wanted <= labels.items()}
    assert found == set(pods) - {"chat-router"}
    assert {pods[name][names.ROLE_LABEL] for name in found} <= {"aggregated", "prefill", "decode"}


@pytest.mark.parametrize("mode", MODES)
def test_programs_reach_running_pods(mode: str) -> None:
    before, after = (plan_of(scheduling(mode), programs=programs) for programs in ((PLAIN,), (PLAIN, REVIEW)))
    assert files(before) != files(after)
    assert router_pod(before) == router_pod(after)


def test_another_mode_replaces_the_router_pods() -> None:
    assert len({config_hash(plan_of(scheduling(mode))) for mode in MODES}) == len(MODES)


def test_changing_files_are_mounted_as_folders_and_never_as_single_files() -> None:
    spec = router_pod(plan_of())["spec"]
    mounts = [mount for one in spec["containers"] for mount in one["volumeMounts"]]
    assert not [mount for mount in mounts if "subPath" in mount]
    items = {item["key"] for volume in spec["volumes"] for item in volume["configMap"]["items"]}
    assert items == set(files(plan_of()))


def test_requests_go_on_without_the_scheduler() -> None:
    """Its state decides nothing about the pod's: no probe, and a first process that does not end with it."""
    one = containers(plan_of())["scheduler"]
    assert not [key for key in one if key.endswith("Probe")]
    assert one["command"] == ["python", "-m", "agentic_serving.router.keeper"]


def test_the_scheduler_runs_from_the_operators_image() -> None:
    plan = render(RenderInputs(stack=stack(), scheduler_image="mirror/operator:2"))
    assert containers(plan)["scheduler"]["image"] == "mirror/operator:2"


def test_the_password_is_a_reference_and_nowhere_else() -> None:
    state = {
        "backend": "Valkey",
        "valkey": {"address": "v:6379", "passwordSecretRef": {"name": "valkey", "key": "password"}},
    }
    plan = plan_of({"programScheduling": {"state": state}})
    (variable,) = [e for e in containers(plan)["scheduler"]["env"] if "secretKeyRef" in e["valueFrom"]]
    assert variable == {
        "name": "AGENTIC_SERVING_VALKEY_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "valkey", "key": "password"}},
    }
    assert "password" not in files(plan)["scheduler.json"]


@pytest.mark.parametrize(
    ("mode", "replicas", "shared"), [("Enforce", 1, False), ("Enforce", 2, True), ("Off", 2, False)]
)
def test_several_router_pods_share_one_active_scheduler(mode: str, replicas: int, shared: bool) -> None:
    plan = plan_of(scheduling(mode, router={"replicas": replicas, "prefixRouting": "Precise"}))
    services = {m.key[2]: m.body["spec"] for m in plan.manifests if m.key[1] == "Service"}
    (role,) = [m.body for m in plan.manifests if m.key[1] == "Role"]
    leases = [rule for rule in role["rules"] if rule["resources"] == ["leases"]]
    assert ("chat-scheduler" in services) == shared == bool(leases)
    assert ("chat-scheduler.ns.svc" in files(plan)["envoy.yaml"]) == shared
    if shared:
        assert services["chat-scheduler"]["clusterIP"] == "None"
        assert services["chat-scheduler"]["publishNotReadyAddresses"] is True
        assert [rule.get("resourceNames") for rule in leases] == [None, ["chat-scheduler"]]


@pytest.mark.parametrize(("hold", "longest"), [("0s", 300), ("90s", 300), ("10m", 600)])
def test_a_hold_comes_on_top_of_the_requests_own_time(hold: str, longest: int) -> None:
    held = program("p", {"match": {"clients": ["Codex"]}, "objective": {"maxHold": hold}})
    gateway = {"mode": "Gateway", "gateway": {"parentRefs": [{"name": "g"}]}}
    plan = plan_of({"router": gateway}, programs=(held,))
    (route,) = [m.body for m in plan.manifests if m.key[1] == "HTTPRoute"]
    total_s = 1800 + longest
    assert route["spec"]["rules"][0]["timeouts"]["request"] == f"{total_s // 60}m"
    assert f"{total_s}s" in files(plan)["routes.yaml"]


@pytest.mark.parametrize(
    ("mode", "completion"), [("Enforce", "Approximated"), ("Observe", "Approximated"), ("Off", "Unsupported")]
)
def test_capabilities_say_who_carries_what(mode: str, completion: str) -> None:
    plan = plan_of(scheduling(mode), programs=(REVIEW,))
    found = {c.intent: c for c in plan.capabilities}
    assert found["CompletionObjective"].state == completion
    ours = {intent for intent, c in found.items() if c.mechanism == "program scheduler"}
    holds = {
        "FairQueueing",
        "TurnHolding",
        "TurnOrdering",
        "SessionPlacement",
        "FanOutStaggering",
        "ProgramPriority",
    }
    assert holds <= ours if mode == "Enforce" else not holds & ours
    assert found["FairQueueing"].state == "Supported"
