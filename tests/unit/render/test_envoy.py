"""render.envoy: what stands in the configuration; what Envoy makes of it is proved in tests/e2e."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.api.matching import PROGRAM_HEADER, ProgramRoute, is_owned_header
from agentic_serving.api.program import HeaderMatch
from agentic_serving.render.envoy import EnvoyConfig, EnvoyInputs, connection_age_s, envoy_config, to_yaml
from agentic_serving.render.envoy_routes import SESSION
from agentic_serving.render.releases import load_release

LLMD = load_release("llm-d-0.10")
CODER = ProgramRoute(namespace="n", name="coder", clients=("Codex",))


BASE = EnvoyInputs(release=LLMD, programs=(), request_timeout_s=1800, drain_s=300)
ENFORCE = replace(BASE, scheduler="Enforce")


def render(*programs: ProgramRoute, base: EnvoyInputs = BASE) -> EnvoyConfig:
    return envoy_config(replace(base, programs=programs))


def manager(rendered: EnvoyConfig, listener: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = rendered.config["static_resources"]["listeners"][listener]["filter_chains"][0][
        "filters"
    ][0]
    typed: dict[str, Any] = found["typed_config"]
    return typed


def host(rendered: EnvoyConfig) -> dict[str, Any]:
    found: dict[str, Any] = rendered.routes["resources"][0]["virtual_hosts"][0]
    return found


def routes(rendered: EnvoyConfig) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = host(rendered)["routes"]
    return found


def to_engines(rendered: EnvoyConfig) -> list[dict[str, Any]]:
    """The routes of calls: those that answer nothing themselves, and do not lead to the scheduler."""
    return [route for route in routes(rendered) if route.get("route", {}).get("cluster") == "picked"]


def hints(rendered: EnvoyConfig) -> list[dict[str, Any]]:
    return [route for route in routes(rendered) if route.get("route", {}).get("cluster") == "scheduler-http"]


def clusters(rendered: EnvoyConfig) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in rendered.config["static_resources"]["clusters"]}


def filters(rendered: EnvoyConfig) -> dict[str, dict[str, Any]]:
    return {found["name"]: found.get("typed_config", {}) for found in manager(rendered)["http_filters"]}


def picking(rendered: EnvoyConfig) -> dict[str, Any]:
    return manager(rendered, 2)


def picking_filters(rendered: EnvoyConfig) -> dict[str, dict[str, Any]]:
    return {found["name"]: found.get("typed_config", {}) for found in picking(rendered)["http_filters"]}


def set_headers(route: dict[str, Any]) -> dict[str, str]:
    mutations = route["typed_per_filter_config"]["program"]["mutations"]["request_mutations"]
    return {found["append"]["header"]["key"]: found["append"]["header"]["value"] for found in mutations}


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def sockets(value: object) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        if "port_value" in value:
            yield value["address"], value["port_value"]
        for child in value.values():
            yield from sockets(child)
    elif isinstance(value, list):
        for child in value:
            yield from sockets(child)


def test_only_the_two_ports_of_the_pod_are_open() -> None:
    config = render().config
    opened = {found for listener in config["static_resources"]["listeners"] for found in sockets(listener)}
    assert opened == {("0.0.0.0", 8080), ("0.0.0.0", 19001)}
    assert set(sockets(config)) - opened == {("127.0.0.1", 19000), ("127.0.0.1", 9002)}


@pytest.mark.parametrize(
    ("base", "first"),
    [
        pytest.param(BASE, ["program"], id="off"),
        pytest.param(
            replace(BASE, scheduler="Observe"), ["program", "first-token", "scheduler"], id="observe"
        ),
        pytest.param(ENFORCE, ["program", "first-token", "scheduler"], id="enforce"),
    ],
)
def test_filters_stand_in_the_order_of_the_proven_chain(base: EnvoyInputs, first: list[str]) -> None:
    """The scheduler reads the program that the first filter writes, and steers the picker."""
    rest = ["pod", "usage-json", "usage-sse", "envoy.filters.http.router"]
    assert list(filters(render(base=base))) == [*first, *rest]
    assert list(picking_filters(render(base=base))) == ["hint", "picker", "envoy.filters.http.router"]


def test_the_picker_sees_both_directions_whole_and_a_request_never_goes_around_it() -> None:
    picker = picking_filters(render())["picker"]
    assert picker["processing_mode"]["request_body_mode"] == "FULL_DUPLEX_STREAMED"
    assert picker["processing_mode"]["response_body_mode"] == "FULL_DUPLEX_STREAMED"
    assert picker["failure_mode_allow"] is False
    assert {route["route"]["cluster"] for route in to_engines(render())} == {"picked"}
    (to_engine,) = picking(render())["route_config"]["virtual_hosts"][0]["routes"]
    assert to_engine["route"]["cluster"] == "engine"
    before = clusters(render())["picked"]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    inner = {"envoy_internal_address": {"server_listener_name": "picking"}}
    assert [one["endpoint"]["address"] for one in before] == [inner]


def test_no_header_between_the_chains_comes_from_a_client_or_goes_to_an_engine() -> None:
    rendered = render(base=ENFORCE)
    outer, inner = host(rendered), picking(rendered)["route_config"]["virtual_hosts"][0]
    there = {one["header"]["key"] for one in outer["request_headers_to_add"]} | {"x-envoy-attempt-count"}
    assert there == set(inner["request_headers_to_remove"])
    assert all(is_owned_header(name) for name in there)
    marks = picking(rendered)["local_reply_config"]["mappers"]
    back = {one["header"]["key"] for mark in marks for one in mark["headers_to_add"]}
    back |= {one["header"]["key"] for one in inner["response_headers_to_add"]}
    kept = {rule["header"] for rule in filters(rendered)["pod"]["response_rules"] if rule["remove"]}
    assert back == kept | set(outer["response_headers_to_remove"])


def test_a_request_is_tried_again_only_where_the_inner_chain_asks_for_it() -> None:
    for route in to_engines(render()):
        policy = route["route"]["retry_policy"]
        assert policy["retry_on"] == "retriable-headers"
        asked = [header["name"] for header in policy["retriable_headers"]]
        assert (
            asked == picking(render())["route_config"]["virtual_hosts"][0]["response_headers_to_remove"][:1]
        )


@pytest.mark.parametrize("scheduler", ["Off", "Observe"])
def test_no_timeout_is_shorter_than_the_request_may_take(scheduler: Literal["Off", "Observe"]) -> None:
    rendered = render(base=replace(BASE, request_timeout_s=600, scheduler=scheduler))
    chain = manager(rendered)
    durations = [
        chain["stream_idle_timeout"],
        chain["common_http_protocol_options"]["max_stream_duration"],
        picking_filters(rendered)["picker"]["message_timeout"],
        *(route["route"][key] for route in to_engines(rendered) for key in ("timeout", "idle_timeout")),
    ]
    assert all(600 <= seconds(duration) < 610 for duration in durations)
    assert picking(rendered)["stream_idle_timeout"] == "0s"  # none


def test_a_hold_takes_nothing_of_the_time_that_the_request_has() -> None:
    rendered = render(base=replace(ENFORCE, request_timeout_s=600, max_hold_s=1200))
    for route in to_engines(rendered):
        action = route["route"]
        longest = action["max_stream_duration"]["max_stream_duration"]
        assert all(seconds(found) >= 1800 for found in (action["timeout"], action["idle_timeout"], longest))
    assert seconds(filters(rendered)["scheduler"]["max_message_timeout"]) > 1200


def test_a_request_does_not_wait_for_a_scheduler_that_says_nothing() -> None:
    scheduler = filters(render(base=ENFORCE))["scheduler"]
    assert (scheduler["failure_mode_allow"], scheduler["message_timeout"]) == (True, "1s")


def test_the_subset_hint_is_let_out_of_one_filter_and_into_the_other() -> None:
    found = filters(render(base=ENFORCE))
    hint = {"untyped": ["envoy.lb.subset_hint"]}
    assert found["scheduler"]["metadata_options"] == {"receiving_namespaces": hint}
    picker = picking_filters(render(base=ENFORCE))["picker"]
    assert picker["metadata_options"] == {"forwarding_namespaces": hint}


@pytest.mark.parametrize("scheduler", ["Enforce", "Observe"])
def test_a_program_is_named_to_the_scheduler_and_to_no_engine(
    scheduler: Literal["Enforce", "Observe"],
) -> None:
    """docs/decisions/0005."""
    rendered = render(CODER, base=replace(BASE, scheduler=scheduler))
    named = {set_headers(route)[PROGRAM_HEADER] for route in to_engines(rendered)}
    assert named == {"coder", "default"}
    assert PROGRAM_HEADER in host(rendered)["request_headers_to_remove"]


def test_without_a_scheduler_nothing_speaks_of_it() -> None:
    rendered = render(CODER)
    text = to_yaml(rendered.config) + to_yaml(rendered.routes)
    assert "scheduler" not in text
    assert PROGRAM_HEADER not in text


def test_a_program_changes_the_routes_only() -> None:
    """What Envoy starts with stays as it is, so no router pod is replaced for an AgentProgram."""
    before, after = render(base=ENFORCE), render(CODER, base=replace(ENFORCE, max_hold_s=3600))
    assert before.config == after.config
    assert before.routes != after.routes


def test_the_scheduler_of_one_router_pod_is_beside_its_envoy() -> None:
    assert set(sockets(clusters(render(base=ENFORCE))["scheduler"])) == {("127.0.0.1", 9004)}


def test_of_several_schedulers_only_an_active_one_is_asked() -> None:
    cluster = clusters(render(base=replace(ENFORCE, scheduler_address="chat-scheduler.ns.svc")))["scheduler"]
    assert set(sockets(cluster)) == {("chat-scheduler.ns.svc", 9004)}
    assert [check["grpc_health_check"] for check in cluster["health_checks"]] == [{"service_name": "active"}]
    assert cluster["common_lb_config"] == {"healthy_panic_threshold": {"value": 0}}


def test_hints_go_to_the_scheduler_under_the_program_that_calls_have() -> None:
    """Nobody speaks for a program whose requests it could not send, and no picker sees a hint."""
    found = hints(render(CODER, base=ENFORCE))
    calls = [route["match"].get("headers") for route in to_engines(render(CODER, base=ENFORCE))]
    assert [route["match"].get("headers") for route in found] == calls
    assert {route["match"]["path"] for route in found} == {"/agentic-serving/v1/hints"}
    rewritten = [route["route"]["prefix_rewrite"] for route in found]
    assert sorted(set(rewritten), key=rewritten.index) == ["/v1/hints/coder", "/v1/hints/default"]
    for route in found:
        disabled = route["typed_per_filter_config"]
        assert {name for name, config in disabled.items() if config["disabled"]} == {"scheduler"}


def test_hints_are_tried_after_refusals_and_before_every_call() -> None:
    kinds = [
        "refusal" if "direct_response" in route else route["route"]["cluster"]
        for route in routes(render(CODER, base=ENFORCE))
    ]
    assert sorted(set(kinds), key=kinds.index) == ["refusal", "scheduler-http", "picked"]
    assert kinds == sorted(kinds, key=["refusal", "scheduler-http", "picked"].index)


def test_hints_too_reach_an_active_scheduler_only() -> None:
    assert set(sockets(clusters(render(base=ENFORCE))["scheduler-http"])) == {("127.0.0.1", 9005)}
    several = clusters(render(base=replace(ENFORCE, scheduler_address="chat-scheduler.ns.svc")))
    cluster = several["scheduler-http"]
    assert set(sockets(cluster)) == {("chat-scheduler.ns.svc", 9005)}
    assert [check["http_health_check"] for check in cluster["health_checks"]] == [{"path": "/v1/hints"}]
    assert cluster["common_lb_config"] == {"healthy_panic_threshold": {"value": 0}}


def test_programs_come_in_order_and_default_last() -> None:
    wide = ProgramRoute(namespace="n", name="wide", clients=("Codex",))
    narrow = ProgramRoute(namespace="n", name="narrow", headers=(HeaderMatch(name="x-a", value="1"),))
    found = [
        route["metadata"]["filter_metadata"]["agentic-serving"]["program"]
        for route in to_engines(render(wide, narrow))
    ]
    assert sorted(set(found), key=found.index) == ["narrow", "wide", "default"]
    assert routes(render())[-1]["match"] == {"prefix": "/"}


def test_a_program_with_a_problem_breaks_nothing() -> None:
    bad = ProgramRoute(
        namespace="n", name="bad", headers=(HeaderMatch(name="x-a", type="RegularExpression", value="("),)
    )
    assert render(bad).routes == render().routes


def test_percent_signs_of_names_stay_data() -> None:
    """Check 22 of docs/checks.md."""
    strange = ProgramRoute(namespace="n", name="50%", clients=("Codex",), objective_name="%REQ(x)%")
    values = [
        value for route in to_engines(render(strange, base=ENFORCE)) for value in set_headers(route).values()
    ]
    assert "%%REQ(x)%%" in values
    assert "50%%" in values
    assert f"50%%/%REQ({SESSION}):200%" in values


@pytest.mark.parametrize("release", ["llm-d-0.10", "gie-1.5"])
def test_headers_are_those_of_the_release(release: str) -> None:
    chosen = load_release(release)
    program = ProgramRoute(namespace="n", name="p", clients=("Codex",), objective_name="o")
    text = to_yaml(render(program, base=replace(BASE, release=chosen)).routes)
    assert f"key: {chosen.headers.fairness}" in text
    assert f"key: {chosen.headers.objective}" in text


hostile = st.text(min_size=1, max_size=30)
any_program = st.builds(
    ProgramRoute,
    namespace=st.just("n"),
    name=hostile,
    created=hostile,
    clients=st.sampled_from([(), ("Codex",), ("ClaudeCode", "OpenCode")]),
    headers=st.lists(
        st.builds(
            HeaderMatch,
            name=st.sampled_from(["x-a", "x-b"]),
            type=st.sampled_from(["Exact", "RegularExpression"]),
            value=hostile,
        ),
        max_size=2,
    ).map(tuple),
    session_header=st.none() | hostile,
    parent_header=st.none() | hostile,
    objective_name=hostile,
)


@settings(deadline=None)  # the machine may be busy; the work is bounded
@given(st.lists(any_program, max_size=4, unique_by=lambda program: program.name))
def test_hostile_strings_stay_data(programs: list[ProgramRoute]) -> None:
    rendered = render(*programs, base=ENFORCE)
    assert yaml.load(to_yaml(rendered.routes), Loader=yaml.CSafeLoader) == rendered.routes
    plain = render(base=ENFORCE)
    assert rendered.config == plain.config
    assert host(rendered).keys() == host(plain).keys()
    assert routes(rendered)[-1] == routes(plain)[-1]


def test_rules_name_programs_in_the_order_they_are_tried() -> None:
    rendered = render(CODER, base=ENFORCE)
    reasons = {rule.id: rule.reason for rule in rendered.rules}
    assert "coder, then default" in reasons["envoy/programs"]
    assert len(reasons) == len(rendered.rules)


@pytest.mark.parametrize("drain_s", [5, 30, 300, 3600])
def test_no_connection_outlives_the_drain_of_its_pod(drain_s: int) -> None:
    """Half of the drain at least is left for the last answer of a connection that has reached its age."""
    assert 1 <= connection_age_s(drain_s) <= drain_s / 2
