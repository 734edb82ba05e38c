"""Hints through the real Envoy: each under the program that the sender's calls have, and harmless without a scheduler."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agentic_serving.api.matching import PROGRAM_HEADER, ProgramRoute
from agentic_serving.api.program import HeaderMatch
from agentic_serving.render.envoy import EnvoyInputs, envoy_config
from agentic_serving.render.envoy_hints import HINTS_PATH, hints_cluster
from agentic_serving.render.releases import load_release
from agentic_serving.router.declarations import ENVOY_PATH, MAX_BODY_BYTES, PATH
from agentic_serving.router.declarations import routes as hint_routes
from agentic_serving.router.words import Declaration
from tests.e2e.localcluster.process import free_ports
from tests.e2e.routerkit.envoys import Answer, RunningEnvoy, running, without_picker
from tests.e2e.routerkit.scripted import ScriptedHost
from tests.e2e.routerkit.upstream import echo

REVIEW = ProgramRoute(
    namespace="ns",
    name="review",
    headers=(HeaderMatch(name="x-pipeline", type="RegularExpression", value="review-[0-9]+"),),
)
CODER = ProgramRoute(namespace="ns", name="coder", clients=("Codex",))
INPUTS = EnvoyInputs(
    release=load_release("gie-1.5"),
    programs=(REVIEW, CODER),
    request_timeout_s=30,
    drain_s=300,
    scheduler="Enforce",
)
SAID = {"session": "s1", "tool_seconds": 12.5}
TOOL = {"session": "s1", "tool_s": 12.5}


class Desk(ScriptedHost):
    """Knows every session whose name begins with s, and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Declaration] = []

    def declare(self, declaration: Declaration, now_s: float) -> bool:
        self.heard.append(declaration)
        return declaration.session.startswith("s")


@contextmanager
def envoy(port: int) -> Iterator[RunningEnvoy]:
    """The rendered chain, whose scheduler has this HTTP port and no gRPC port."""
    with echo() as upstream:
        rendered = without_picker(envoy_config(INPUTS), upstream.endpoint)
        cluster = hints_cluster("")
        address = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
        address["socket_address"]["port_value"] = port
        resources = rendered.config["static_resources"]
        clusters = [one for one in resources["clusters"] if one["name"] != cluster["name"]]
        config = {**rendered.config, "static_resources": {**resources, "clusters": [*clusters, cluster]}}
        with running(replace(rendered, config=config)) as found:
            yield found


@asynccontextmanager
async def scheduler(desk: Desk) -> AsyncIterator[int]:
    app = web.Application()
    app.add_routes(hint_routes(desk, lambda: 0.0))
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port


async def say(
    envoy: RunningEnvoy, headers: Sequence[tuple[str, str]] = (), path: str = HINTS_PATH, **more: Any
) -> Answer:
    return await asyncio.to_thread(envoy.post, headers, path=path, body={**SAID, **more})


def test_both_sides_mean_one_path() -> None:
    assert HINTS_PATH == ENVOY_PATH
    route = next(
        one
        for one in envoy_config(INPUTS).routes["resources"][0]["virtual_hosts"][0]["routes"]
        if one["match"].get("path") == HINTS_PATH
    )
    assert route["route"]["prefix_rewrite"].startswith(f"{PATH}/")


async def test_a_hint_belongs_to_the_program_whose_calls_its_sender_could_send() -> None:
    desk = Desk()
    async with scheduler(desk) as port:
        with envoy(port) as found:
            answers = [
                await say(found, headers)
                for headers in (
                    [("x-pipeline", "review-7")],
                    [("session_id", "t")],
                    [],
                    [(PROGRAM_HEADER, "review")],
                )
            ]
            assert [answer.code for answer in answers] == [202] * 4
            assert [told.program for told in desk.heard] == ["review", "coder", "default", "default"]
            assert [told.tool_s for told in desk.heard] == [12.5] * 4
            desk.heard.clear()
            for headers, path, more, code in (
                ([("x-pipeline", "review-7")], HINTS_PATH, {"program": "coder"}, 403),
                ([], f"{HINTS_PATH}?a=b", {"program": "default"}, 202),
                ([], HINTS_PATH, {"session": "unknown"}, 404),
                ([], HINTS_PATH, {"tool_seconds": "x" * MAX_BODY_BYTES}, 413),
                ([("session-id", "\xe9")], HINTS_PATH, {}, 400),
            ):
                answer = await say(found, headers, path, **more)
                assert answer.code == code, (headers, path, answer.body)
            assert [told.program for told in desk.heard] == ["default", "default"]
            wrong = await asyncio.to_thread(found.get, HINTS_PATH)
            assert wrong.code == 405


async def test_without_a_scheduler_a_hint_is_refused_and_calls_go_on() -> None:
    (port,) = free_ports(1)
    with envoy(port) as found:
        assert (await say(found)).code == 503
        assert (await asyncio.to_thread(found.post)).code == 200


@pytest.mark.parametrize(
    "path", [f"{HINTS_PATH}/review", f"{HINTS_PATH}/", "/v1/hints/review", "/v1/programs"]
)
async def test_nothing_else_of_the_scheduler_is_open_to_clients(path: str) -> None:
    desk = Desk()
    async with scheduler(desk) as port:
        with envoy(port) as found:
            answer = await say(found, path=path)
            assert json.loads(answer.body)["path"] == path  # an engine's to answer, as every other path
    assert desk.heard == []
