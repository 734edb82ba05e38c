"""render.envoy: what stands in the configuration; what Envoy makes of it is proved in tests/e2e."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.api.program import HeaderMatch
from agentic_serving.render.envoy import EnvoyInputs, connection_age_s, envoy_config, to_yaml
from agentic_serving.render.envoy_routes import SESSION
from agentic_serving.render.releases import load_release

LLMD = load_release("llm-d-0.10")


def render(*programs: ProgramRoute, timeout_s: int = 1800) -> dict[str, Any]:
    rendered = envoy_config(
        EnvoyInputs(release=LLMD, programs=programs, request_timeout_s=timeout_s, drain_s=300)
    )
    return dict(rendered.config)


def manager(config: dict[str, Any], listener: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = config["static_resources"]["listeners"][listener]["filter_chains"][0]["filters"][
        0
    ]
    typed: dict[str, Any] = found["typed_config"]
    return typed


def routes(config: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manager(config)["route_config"]["virtual_hosts"][0]["routes"]
    return found


def to_engines(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The routes that answer nothing themselves."""
    return [route for route in routes(config) if "route" in route]


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
    config = render()
    opened = {found for listener in config["static_resources"]["listeners"] for found in sockets(listener)}
    assert opened == {("0.0.0.0", 8080), ("0.0.0.0", 19001)}
    assert set(sockets(config)) - opened == {("127.0.0.1", 19000), ("127.0.0.1", 9002)}


def test_filters_stand_in_the_order_of_the_proven_chain() -> None:
    names = [found["name"] for found in manager(render())["http_filters"]]
    assert names == ["program", "picker", "usage-json", "usage-sse", "envoy.filters.http.router"]


def test_the_picker_sees_both_directions_whole_and_a_request_never_goes_around_it() -> None:
    picker = manager(render())["http_filters"][1]["typed_config"]
    assert picker["processing_mode"]["request_body_mode"] == "FULL_DUPLEX_STREAMED"
    assert picker["processing_mode"]["response_body_mode"] == "FULL_DUPLEX_STREAMED"
    assert picker["failure_mode_allow"] is False
    assert {route["route"]["cluster"] for route in to_engines(render())} == {"picked"}


def test_no_timeout_is_shorter_than_the_request_may_take() -> None:
    config = render(timeout_s=600)
    chain = manager(config)
    durations = [
        chain["stream_idle_timeout"],
        chain["common_http_protocol_options"]["max_stream_duration"],
        chain["http_filters"][1]["typed_config"]["message_timeout"],
        *(route["route"][key] for route in to_engines(config) for key in ("timeout", "idle_timeout")),
    ]
    assert all(int(duration.removesuffix("s")) >= 600 for duration in durations)


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
    assert render(bad) == render()


def test_percent_signs_of_names_stay_data() -> None:
    """Check 22 of docs/checks.md."""
    strange = ProgramRoute(namespace="n", name="50%", clients=("Codex",), objective_name="%REQ(x)%")
    values = [
        mutation["append"]["header"]["value"]
        for route in to_engines(render(strange))
        for mutation in route["typed_per_filter_config"]["program"]["mutations"]["request_mutations"]
    ]
    assert "%%REQ(x)%%" in values
    assert f"50%%/%REQ({SESSION}):200%" in values


@pytest.mark.parametrize("release", ["llm-d-0.10", "gie-1.5"])
def test_headers_are_those_of_the_release(release: str) -> None:
    chosen = load_release(release)
    program = ProgramRoute(namespace="n", name="p", clients=("Codex",), objective_name="o")
    rendered = envoy_config(
        EnvoyInputs(release=chosen, programs=(program,), request_timeout_s=60, drain_s=300)
    )
    text = to_yaml(rendered.config)
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
    config = render(*programs)
    assert yaml.load(to_yaml(config), Loader=yaml.CSafeLoader) == config
    plain = render()
    assert set(config) == set(plain)
    assert manager(config)["http_filters"] == manager(plain)["http_filters"]
    assert config["static_resources"]["clusters"] == plain["static_resources"]["clusters"]
    assert routes(config)[-1] == routes(plain)[-1]


def test_rules_name_programs_in_the_order_they_are_tried() -> None:
    program = ProgramRoute(namespace="n", name="coder", clients=("Codex",))
    rendered = envoy_config(EnvoyInputs(release=LLMD, programs=(program,), request_timeout_s=60, drain_s=300))
    reasons = {rule.id: rule.reason for rule in rendered.rules}
    assert "coder, then default" in reasons["envoy/programs"]
    assert len(reasons) == len(rendered.rules)


@pytest.mark.parametrize("drain_s", [5, 30, 300, 3600])
def test_no_connection_outlives_the_drain_of_its_pod(drain_s: int) -> None:
    """Half of the drain at least is left for the last answer of a connection that has reached its age."""
    assert 1 <= connection_age_s(drain_s) <= drain_s / 2
