"""router.declarations: what applications may say, over real HTTP, and what they are told when it cannot be taken."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.router.declarations import MAX_BODY_BYTES, Refused, parse, routes
from agentic_serving.router.words import Call, Declaration, Go, Pod, Usage, Word

Client = TestClient[web.Request, web.Application]
SAID = {"session": "s1", "tool_seconds": 12.5}


class Desk:
    """Knows one session, and lets a call go whenever it is asked."""

    wake_s: float | None = None

    def __init__(self) -> None:
        self.heard: list[tuple[Declaration, float]] = []

    def declare(self, declaration: Declaration, now_s: float) -> bool:
        self.heard.append((declaration, now_s))
        return declaration.session == "s1"

    def tick(self, now_s: float) -> Sequence[Word]:
        return [Go(call_id="held")]

    def arrive(self, call: Call, now_s: float) -> Sequence[Word]:
        raise AssertionError("not asked here")

    def closed(self, call_id: str, now_s: float) -> Sequence[Word]:
        raise AssertionError("not asked here")

    def usage(self, usage: Usage, now_s: float) -> Sequence[Word]:
        raise AssertionError("not asked here")

    def pods(self, pods: Sequence[Pod], now_s: float) -> Sequence[Word]:
        raise AssertionError("not asked here")


class Scene:
    def __init__(self) -> None:
        self.desk, self.active = Desk(), True
        self.delivered: list[Word] = []


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
async def client(scene: Scene) -> AsyncIterator[Client]:
    app = web.Application()
    app.add_routes(
        routes(
            scene.desk, lambda: 7.0, active=lambda: scene.active, deliver=lambda w: scene.delivered.extend(w)
        )
    )
    async with TestClient(TestServer(app)) as found:
        yield found


async def test_a_hint_reaches_the_desk_under_the_program_that_envoy_found(
    scene: Scene, client: Client
) -> None:
    answer = await client.post("/v1/hints/review", json=SAID | {"fork": 8, "remaining_seconds": 60})
    assert (answer.status, await answer.json()) == (202, {"known": True})
    assert scene.desk.heard == [
        (Declaration(program="review", session="s1", fork=8, tool_s=12.5, remaining_s=60.0), 7.0)
    ]
    assert scene.delivered == [Go(call_id="held")]


async def test_a_session_that_nobody_knows_is_told_so(client: Client) -> None:
    answer = await client.post("/v1/hints/review", json={"session": "s2", "finished": True})
    assert answer.status == 404
    assert "after its first model call" in (await answer.json())["error"]["message"]


async def test_one_that_stands_by_takes_no_hints(scene: Scene, client: Client) -> None:
    assert (await client.get("/v1/hints")).status == 200
    scene.active = False
    assert (await client.get("/v1/hints")).status == 503
    assert (await client.post("/v1/hints/review", json=SAID)).status == 503
    assert scene.desk.heard == []


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/hints/review", SAID | {"program": "billing"}, 403, "belongs to review"),
        ("/v1/hints", SAID, 400, "program: missing"),
        ("/v1/hints/review", {"session": "s1"}, 400, "says nothing"),
        ("/v1/hints/review", {"session": "s1", "join": False}, 400, "says nothing"),
        ("/v1/hints/review", {"tool_seconds": 1}, 400, "session: Field required"),
        ("/v1/hints/review", SAID | {"session": "a b"}, 400, "session: must be 1 to 128"),
        ("/v1/hints/review", SAID | {"session": "x" * 129}, 400, "session: must be 1 to 128"),
        ("/v1/hints/review", SAID | {"tool_seconds": -1}, 400, "tool_seconds: "),
        ("/v1/hints/review", SAID | {"tool_seconds": 86_401}, 400, "tool_seconds: "),
        ("/v1/hints/review", SAID | {"tool_seconds": "5"}, 400, "tool_seconds: "),
        ("/v1/hints/review", SAID | {"fork": 0}, 400, "fork: "),
        ("/v1/hints/review", SAID | {"fork": 4097}, 400, "fork: "),
        ("/v1/hints/review", SAID | {"fork": True}, 400, "fork: "),
        ("/v1/hints/review", SAID | {"finished": 1}, 400, "finished: "),
        ("/v1/hints/review", SAID | {"secret\n": 1}, 400, "unknown field: "),
        ("/v1/hints/review", [], 400, "valid dictionary"),
        ("/v1/hints/%C3%A9", SAID, 400, "program: must be"),
        ("/v1/hints/" + "x" * 129, SAID, 400, "program: must be"),
    ],
    ids=str,
)
async def test_what_cannot_be_taken_is_refused_with_what_to_change(
    scene: Scene, client: Client, path: str, body: object, status: int, says: str
) -> None:
    answer = await client.post(path, json=body)
    assert answer.status == status
    message = (await answer.json())["error"]["message"]
    assert says in message
    assert "secret" not in message
    assert scene.desk.heard == []


@pytest.mark.parametrize("sent", [b"", b"{", b"\xff", b"[" * 5000, b'{"session": "s1", "tool_seconds": NaN}'])
async def test_what_is_no_json_is_refused(client: Client, sent: bytes) -> None:
    assert (await client.post("/v1/hints/review", data=sent)).status == 400


async def test_a_long_body_is_refused_before_it_is_all_there(client: Client) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(3 * MAX_BODY_BYTES // 1024):
            yield b" " * 1024

    assert (await client.post("/v1/hints/review", data=endless())).status == 413


KEYS = st.sampled_from(
    ["session", "program", "fork", "join", "tool_seconds", "remaining_seconds", "finished"]
)
VALUES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
)


@given(st.binary() | st.dictionaries(KEYS | st.text(), VALUES).map(lambda d: json.dumps(d).encode()))
def test_whatever_comes_is_a_declaration_within_bounds_or_a_refusal(body: bytes) -> None:
    found = _parsed(body)
    if isinstance(found, Refused):
        assert found.status in (400, 403)
        assert len(str(found)) < 1000
        return
    assert found.program == "review"
    assert 0 < len(found.session) <= 128
    assert found.tool_s is None or 0 <= found.tool_s <= 86_400


def _parsed(body: bytes) -> Declaration | Refused:
    try:
        return parse(body, "review")
    except Refused as refused:
        return refused
