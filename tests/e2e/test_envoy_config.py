"""Rendered configurations in the real Envoy: accepted in every shape, and doing what they say to each request."""

import copy
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentic_serving.api.matching import OWNED_HEADERS, ProgramRoute
from agentic_serving.api.program import Client, HeaderMatch
from agentic_serving.api.regex import why_refused
from agentic_serving.render.envoy import EnvoyConfig, EnvoyInputs, envoy_config
from agentic_serving.render.envoy_routes import SESSION
from agentic_serving.render.releases import load_release
from tests.e2e.localcluster.process import wait_until
from tests.e2e.routerkit.envoys import RunningEnvoy, refusal, running, without_picker
from tests.e2e.routerkit.golden import golden_files
from tests.e2e.routerkit.upstream import echo

LLMD = load_release("llm-d-0.10")
FAIRNESS, OBJECTIVE = LLMD.headers.fairness, LLMD.headers.objective


def header(name: str, value: str, *, regex: bool = False) -> HeaderMatch:
    return HeaderMatch(name=name, type="RegularExpression" if regex else "Exact", value=value)


def program(
    name: str,
    *,
    clients: tuple[Client, ...] = (),
    headers: tuple[HeaderMatch, ...] = (),
    session_header: str | None = None,
    parent_header: str | None = None,
) -> ProgramRoute:
    return ProgramRoute(
        namespace="ns",
        name=name,
        objective_name=f"objective-{name}",
        clients=clients,
        headers=headers,
        session_header=session_header,
        parent_header=parent_header,
    )


CLIENTS = program("clients", clients=("ClaudeCode", "Codex", "OpenCode"))
OWN = program(
    "own", headers=(header("X-Team", "blue"),), session_header="X-Run", parent_header="X-Parent-Run"
)
NARROW = program("narrow", headers=(header("X-Team", "blue"), header("X-Kind", "n[0-9]+|%REQ", regex=True)))
MIXED = program("mixed", clients=("Codex",), headers=(header("X-Team", 'a"%{}:\\'),))
PROGRAMS = (CLIENTS, OWN, NARROW, MIXED)

#: Expressions at the edge of what we let through; RE2 must compile every one.
LARGE_EXPRESSIONS = (
    "." * 256,
    ".{700}",
    "[^a]{500}",
    "(?i)" + "[a-zA-Z0-9_]" * 20,
    "(?:(?:a|b)*c{2,5}?)+",
    "((((((a?){9}){9})))){1,2}",
    r"\w\W\d\D\s\S\b\B^$",
    r"[\w\-.\\\]]+-?",
    "(|a|)*()",
)


SCHEDULERS: dict[str, dict[str, Any]] = {
    "off": {},
    "observe": {"scheduler": "Observe"},
    "enforce": {"scheduler": "Enforce"},
    "several": {"scheduler": "Enforce", "scheduler_address": "chat-scheduler.ns.svc"},
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("release", ["llm-d-0.10", "gie-1.5"])
@pytest.mark.parametrize(
    "programs",
    [(), PROGRAMS, tuple(program(f"p{i}", clients=("Codex",)) for i in range(64))],
    ids=["none", "all-kinds", "many"],
)
def test_envoy_accepts_every_shape(
    release: str, programs: tuple[ProgramRoute, ...], scheduler: str, tmp_path: Path
) -> None:
    rendered = envoy_config(
        EnvoyInputs(
            release=load_release(release),
            programs=programs,
            request_timeout_s=1800,
            drain_s=300,
            **SCHEDULERS[scheduler],
        )
    )
    assert not rendered.ordering.problems
    assert refusal(rendered.config, tmp_path) == ""
    assert refusal(rendered.config, tmp_path, rendered.routes) == ""


@pytest.mark.parametrize("file", golden_files("envoy.yaml"))
def test_envoy_accepts_every_golden_configuration(file: str, tmp_path: Path) -> None:
    assert refusal(golden_files("envoy.yaml")[file], tmp_path) == ""


@pytest.mark.parametrize("file", golden_files("routes.yaml"))
def test_envoy_accepts_every_golden_file_of_routes(file: str, tmp_path: Path) -> None:
    config = next(iter(golden_files("envoy.yaml").values()))
    assert refusal(config, tmp_path, golden_files("routes.yaml")[file]) == ""


def test_envoy_compiles_every_expression_that_we_let_through(tmp_path: Path) -> None:
    assert [why_refused(pattern) for pattern in LARGE_EXPRESSIONS] == [None] * len(LARGE_EXPRESSIONS)
    programs = tuple(
        program(f"p{i}", headers=(header("x-a", pattern, regex=True),))
        for i, pattern in enumerate(LARGE_EXPRESSIONS)
    )
    rendered = envoy_config(EnvoyInputs(release=LLMD, programs=programs, request_timeout_s=60, drain_s=300))
    assert refusal(rendered.config, tmp_path, rendered.routes) == ""


def test_envoy_compiles_random_expressions_that_we_let_through(tmp_path: Path) -> None:
    """Nonsense made of the syntax's own pieces: whatever of it we accept, RE2 accepts."""
    rng = random.Random(7)
    pieces = [
        "a",
        "b",
        "-",
        ".",
        "*",
        "+",
        "?",
        "|",
        "^",
        "$",
        "(",
        ")",
        "(?:",
        "[a-c]",
        "[^x-]",
        "\\d",
        "\\b",
        "\\.",
        "{2}",
        "{1,3}",
        "{0,}",
        "{",
        "}",
        "[",
        "]",
        "[]",
        "(?i)",
        "(?=",
        "\\1",
        "\\",
        ",",
        "++",
        "{3}+",
        "\\Z",
    ]
    made = {"".join(rng.choices(pieces, k=rng.randint(1, 9))) for _ in range(20_000)}
    accepted = sorted(pattern for pattern in made if pattern and why_refused(pattern) is None)
    assert len(accepted) > 500
    programs = tuple(
        program(f"p{i}", headers=(header("x-a", pattern, regex=True),)) for i, pattern in enumerate(accepted)
    )
    rendered = envoy_config(EnvoyInputs(release=LLMD, programs=programs, request_timeout_s=60, drain_s=300))
    assert refusal(rendered.config, tmp_path, rendered.routes) == ""


def with_bad_expression(rendered: EnvoyConfig) -> dict[str, Any]:
    """The routes of NARROW with an expression that RE2 refuses."""
    routes = copy.deepcopy(dict(rendered.routes))
    host = routes["resources"][0]["virtual_hosts"][0]
    narrow = next(route for route in host["routes"] if len(route["match"].get("headers", [])) == 2)
    narrow["match"]["headers"][1]["string_match"]["safe_regex"]["regex"] = "(?=a)"
    return routes


def test_an_expression_that_re2_refuses_would_take_all_programs_down(tmp_path: Path) -> None:
    """Why expressions are checked at all: a router that starts with such routes has none."""
    rendered = envoy_config(EnvoyInputs(release=LLMD, programs=(NARROW,), request_timeout_s=60, drain_s=300))
    assert "invalid perl operator" in refusal(rendered.config, tmp_path, with_bad_expression(rendered))


@pytest.fixture(scope="module")
def envoy() -> Iterator[RunningEnvoy]:
    """The rendered chain without its picker, in front of an echo."""
    rendered = envoy_config(EnvoyInputs(release=LLMD, programs=PROGRAMS, request_timeout_s=60, drain_s=300))
    with echo() as upstream, running(without_picker(rendered, upstream.endpoint)) as ready:
        yield ready


CLAUDE = ("X-Claude-Code-Session-Id", "c-1")
CODEX = [("session-id", "x-1"), ("x-codex-turn-metadata", "{}")]
OPENCODE = [("x-session-id", "ses_1"), ("x-session-affinity", "ses_1")]
TEAM = ("x-team", "blue")


@pytest.mark.parametrize(
    ("sent", "fairness", "objective"),
    [
        pytest.param([CLAUDE], ["clients/c-1"], ["objective-clients"], id="claude-code"),
        pytest.param(CODEX, ["clients/x-1"], ["objective-clients"], id="codex"),
        pytest.param([("session_id", "old")], ["clients/old"], ["objective-clients"], id="codex-before-0.131"),
        pytest.param(OPENCODE, ["clients/ses_1"], ["objective-clients"], id="opencode"),
        pytest.param(
            [("x-parent-session-id", "ses_0"), *OPENCODE], ["clients/ses_0"], ["objective-clients"], id="opencode-child"
        ),
        pytest.param([("x-session-affinity", "lb-cookie")], ["default/"], [], id="an-affinity-header-that-is-not-opencodes"),
        pytest.param([], ["default/"], [], id="nobody-we-know"),
        pytest.param([("session-id", "s")], ["default/s"], [], id="default-program-with-a-session"),
        pytest.param([TEAM, ("X-Run", "r1")], ["own/r1"], ["objective-own"], id="own-session-header"),
        pytest.param(
            [TEAM, ("X-Run", "r1"), ("X-Parent-Run", "r0")], ["own/r0"], ["objective-own"], id="own-parent-header"
        ),
        pytest.param([TEAM, CLAUDE], ["own/c-1"], ["objective-own"], id="own-program-with-a-clients-session"),
        pytest.param([TEAM], ["own/"], ["objective-own"], id="own-program-without-identity"),
        pytest.param([TEAM, ("X-Run", "")], ["own/"], ["objective-own"], id="an-empty-identity-is-none"),
        pytest.param([TEAM, ("X-Run", "%REQ(x)%")], ["own/%REQ(x)%"], ["objective-own"], id="a-hostile-identity"),
        pytest.param([TEAM, ("X-Run", "r" * 999)], ["own/" + "r" * 200], ["objective-own"], id="a-long-identity"),
        pytest.param([TEAM, ("X-Kind", "n12")], ["narrow/"], ["objective-narrow"], id="more-headers-win"),
        pytest.param([TEAM, ("X-Kind", "n12x")], ["own/"], ["objective-own"], id="expressions-match-whole-values"),
        pytest.param([TEAM, ("X-Kind", "%REQ")], ["narrow/"], ["objective-narrow"], id="percent-in-an-expression"),
        pytest.param([("x-team", "Blue")], ["default/"], [], id="values-are-compared-with-case"),
        pytest.param(
            [("x-team", 'a"%{}:\\'), *CODEX], ["mixed/x-1"], ["objective-mixed"], id="clients-and-headers-together"
        ),
        pytest.param([("x-team", 'a"%{}:\\'), CLAUDE], ["clients/c-1"], ["objective-clients"], id="a-client-not-named"),
    ],
)  # fmt: skip
def test_a_request_gets_the_queue_and_objective_of_its_program(
    envoy: RunningEnvoy, sent: list[tuple[str, str]], fairness: list[str], objective: list[str]
) -> None:
    answer = envoy.post(sent)
    assert (answer.header(FAIRNESS), answer.header(OBJECTIVE)) == (fairness, objective)


@pytest.mark.parametrize("name", ["session-id", "X-Run", "x-claude-code-session-id"])
@pytest.mark.parametrize("value", ["caf\xe9", "\xff\xfe", "a\tb"], ids=["latin-1", "not-utf-8", "tab"])
def test_an_identity_that_is_not_printable_ascii_is_refused(
    envoy: RunningEnvoy, name: str, value: str
) -> None:
    answer = envoy.post([(name, value)])
    assert (answer.code, b"printable ASCII" in answer.body) == (400, True)


SPOOFED = sorted(
    OWNED_HEADERS - {"x-request-id"}
    | {
        "x-gateway-destination-endpoint",
        "x-gateway-destination-endpoint-subset",
        "x-gateway-inference-fairness-id",
        "x-gateway-inference-objective",
        "x-gateway-model-name-rewrite",
        "x-llm-d-inference-fairness-id",
        "x-llm-d-inference-objective",
        "x-llm-d-model-name-rewrite",
        "x-llm-d-slo-ttft-ms",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-original-dst-host",
        SESSION,
    }
)


@pytest.mark.parametrize("spelling", [str.lower, str.upper], ids=["lower", "upper"])
def test_headers_that_only_the_router_may_set_never_get_in(
    envoy: RunningEnvoy, spelling: Callable[[str], str]
) -> None:
    answer = envoy.post([(spelling(name), "spoofed") for name in SPOOFED for _ in range(2)])
    assert answer.code == 200
    assert [name for name, value in answer.arrived["headers"] if "spoofed" in value] == []
    assert {name for name, _ in answer.arrived["headers"]} & set(SPOOFED) == {FAIRNESS}  # Envoy's own


def test_a_spoofed_header_does_not_choose_a_program(envoy: RunningEnvoy) -> None:
    answer = envoy.post([(SESSION, "evil"), (FAIRNESS, "clients/c-1"), ("session-id", "mine")])
    assert answer.header(FAIRNESS) == ["default/mine"]


def test_every_request_has_an_id_of_its_own(envoy: RunningEnvoy) -> None:
    """The picker's accounts are kept by this id; a client that repeats one would corrupt them."""
    answers = [envoy.post([("x-request-id", "same")]).header("x-request-id") for _ in range(2)]
    assert [len(found) for found in answers] == [1, 1]
    assert answers[0] != answers[1]
    assert ["same"] not in answers


def test_what_envoy_puts_in_for_itself_stays_inside(envoy: RunningEnvoy) -> None:
    assert envoy.post([CLAUDE]).header(SESSION) == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_access_log_says_who_where_and_how_many_tokens(
    envoy: RunningEnvoy,
    stream: bool,
    path: str,
) -> None:
    body = {"model": "m", "stream": stream, "messages": []}
    request_id = envoy.post([CLAUDE], path=f"{path}?key=secret", body=body).header("x-request-id")
    line: dict[str, Any] = {}

    def logged() -> bool:
        line.update(next((entry for entry in envoy.log_lines() if [entry["request_id"]] == request_id), {}))
        return bool(line)

    wait_until(logged, timeout_s=5, what="the line of this request")
    tokens = {key: line[key] for key in ("prompt_tokens", "completion_tokens", "cached_tokens")}
    assert tokens == {"prompt_tokens": 11, "completion_tokens": 7, "cached_tokens": 5}
    assert (line["program"], line["queue"], line["code"]) == ("clients", "clients/c-1", 200)
    assert line["path"] == path  # the query stays out


@pytest.mark.parametrize(
    ("path", "code"),
    [("/ready", 200), ("/metrics", 200), ("/quitquitquit", 404), ("/config_dump", 404), ("/", 404)],
)
def test_the_ready_port_shows_two_pages_of_the_admin_interface(
    envoy: RunningEnvoy, path: str, code: int
) -> None:
    assert envoy.get(path, port=envoy.ready_port).code == code


def test_a_body_of_megabytes_passes(envoy: RunningEnvoy) -> None:
    answer = envoy.post(body={"model": "m", "messages": [{"role": "user", "content": "x" * 8_000_000}]})
    assert (answer.code, answer.arrived["n_bytes"] > 8_000_000) == (200, True)


def test_without_a_picker_no_pod_is_reached() -> None:
    """Fail closed: no picker, no pod, even for a request that names one."""
    rendered = envoy_config(EnvoyInputs(release=LLMD, programs=(), request_timeout_s=60, drain_s=300))
    with echo() as upstream, running(rendered, picker_port=1) as ready:
        answer = ready.post([(LLMD.headers.destination, upstream.endpoint)])
    assert answer.code in (500, 503)


def test_programs_change_while_envoy_runs() -> None:
    """As the kubelet replaces a ConfigMap's files: no request fails, and an unreadable file changes nothing."""
    before, after = (
        envoy_config(EnvoyInputs(release=LLMD, programs=found, request_timeout_s=60, drain_s=300))
        for found in ((), PROGRAMS)
    )
    with echo() as upstream, running(without_picker(before, upstream.endpoint)) as ready:
        assert ready.post([CLAUDE]).header(FAIRNESS) == ["default/c-1"]
        ready.change(after)
        codes: list[int] = []

        def changed() -> bool:
            answer = ready.post([CLAUDE])
            codes.append(answer.code)
            return answer.header(FAIRNESS) == ["clients/c-1"]

        wait_until(changed, timeout_s=10, what="the new routes", watch=[ready.process])
        assert set(codes) == {200}


def test_routes_that_envoy_refuses_change_nothing() -> None:
    good = envoy_config(EnvoyInputs(release=LLMD, programs=(NARROW,), request_timeout_s=60, drain_s=300))
    with echo() as upstream, running(without_picker(good, upstream.endpoint)) as ready:
        ready.change(replace(good, routes=with_bad_expression(good)))

        def refused() -> bool:
            page = ready.get("/metrics", port=ready.ready_port).body.decode()
            return re.search(r"^envoy_http_rds_update_rejected\{.*\} [1-9]", page, re.MULTILINE) is not None

        wait_until(refused, timeout_s=10, what="the refusal", watch=[ready.process])
        assert ready.post([TEAM, ("X-Kind", "n12")]).header(FAIRNESS) == ["narrow/"]
