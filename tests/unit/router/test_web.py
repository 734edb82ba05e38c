"""router.web: every page over real HTTP, and refusals that are JSON whatever comes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from agentic_serving.router.history import History
from agentic_serving.router.metrics import Metrics
from agentic_serving.router.report import Report
from agentic_serving.router.views import HeldCall
from agentic_serving.router.web import Site, make_app
from tests.unit.router.story import CONFIG, Desk, Story, Turn

Client = TestClient[web.Request, web.Application]


class Scene:
    """A site, the story that feeds it, and a client."""

    def __init__(self) -> None:
        self.desk = Desk.with_replicas("chat-0", "chat-1")
        metrics, report, history = Metrics(CONFIG), Report(CONFIG), History()
        metrics.view(self.desk)
        self.story = Story([metrics, report, history])
        self.why_not = ""
        self.site = Site(
            config=CONFIG,
            metrics=metrics,
            report=report,
            history=history,
            view=self.desk,
            clock=lambda: self.story.now_s,
            ready=lambda: self.why_not,
            active=lambda: True,
            wall=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        )


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
async def client(scene: Scene) -> AsyncIterator[Client]:
    async def broken(_: web.Request) -> web.Response:
        raise web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2)

    async with TestClient(TestServer(make_app(scene.site, [web.post("/v1/hints", broken)]))) as found:
        yield found


async def test_metrics_are_what_prometheus_reads(scene: Scene, client: Client) -> None:
    scene.story.turn()
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    names = {family.name for family in text_string_to_metric_families(await answer.text())}
    assert {"agentic_serving_turns", "agentic_serving_replica_needed_tokens"} <= names


async def test_readiness_says_why_not(scene: Scene, client: Client) -> None:
    assert (await client.get("/readyz")).status == 200
    scene.why_not = "no pods have been listed yet"
    answer = await client.get("/readyz")
    assert (answer.status, await answer.text()) == (503, "no pods have been listed yet\n")
    assert (await client.get("/healthz")).status == 200


async def test_programs(scene: Scene, client: Client) -> None:
    scene.story.task(30.0)
    found = await (await client.get("/v1/programs")).json()
    assert {k: found[k] for k in ("as_of", "namespace", "stack", "mode", "active", "window_s")} == {
        "as_of": "2026-01-02T03:04:05Z",
        "namespace": "team",
        "stack": "chat",
        "mode": "Enforce",
        "active": True,
        "window_s": 3600.0,
    }
    assert [(p["name"], p["completed"]) for p in found["programs"]] == [("review", 1), ("triage", 0)]


async def test_live(scene: Scene, client: Client) -> None:
    call = scene.story.come(Turn(hold_s=1, because="chat-0 is full"))
    scene.desk.waiting = [
        HeldCall(
            call_id=call,
            program="review",
            run="review/r1",
            session="review/r1",
            reason="WaitsForRoom",
            since_s=scene.story.now_s,
            until_s=scene.story.now_s + 300,
            n_bytes=4096,
        )
    ]
    scene.story.now_s += 2
    found = await (await client.get("/v1/live")).json()
    assert [(h["session"], h["held_s"], h["because"]) for h in found["holds"]] == [
        ("review/r1", 2.0, "chat-0 is full")
    ]
    assert found["totals"] == {"runs": 2, "sessions": 5, "in_flight": 3, "held": 1, "held_bytes": 4096}
    assert [(r["name"], r["needed_tokens"]) for r in found["replicas"]] == [
        ("chat-0", 40_000),
        ("chat-1", 40_000),
    ]
    assert [(s["id"], s["state"]) for s in found["sessions"]] == [("review/r1", "Held")]


@pytest.mark.parametrize("path", ["/v1/runs/review/r1", "/v1/runs/review%2Fr1", "/v1/runs/review/r1/child"])
async def test_a_run_by_its_name_or_a_sessions(path: str, scene: Scene, client: Client) -> None:
    scene.story.turn()
    scene.story.turn(Turn(session="review/r1/child", parent="review/r1"))
    answer = await client.get(path)
    assert (answer.status, (await answer.json())["id"]) == (200, "review/r1")


async def test_names_that_are_escaped_twice_are_found(scene: Scene, client: Client) -> None:
    """A `/` that a client put into an id is `%2F` in our name, which a URL escapes once more."""
    scene.story.turn(Turn(session="review/a%2Fb", run="review/a%2Fb"))
    assert (await client.get("/v1/runs/review%2Fa%252Fb")).status == 200


async def test_half_a_character_in_a_text_is_still_an_answer(scene: Scene, client: Client) -> None:
    scene.story.turn(Turn(because="\ud800"))
    answer = await client.get("/v1/runs/review/r1")
    assert answer.status == 200
    await answer.json()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/runs/nobody", 404),
        ("GET", "/v1/runs/%00%ff", 404),
        ("GET", "/v1/runs/" + "x" * 5000, 404),
        ("GET", "/nothing", 404),
        ("POST", "/v1/live", 405),
        ("POST", "/v1/hints", 413),
    ],
)
async def test_refusals_are_json(method: str, path: str, status: int, client: Client) -> None:
    answer = await client.request(method, path)
    assert answer.status == status
    assert (await answer.json())["error"]["message"]
