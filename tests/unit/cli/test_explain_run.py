"""`top` and `explain run` against a real scheduler's pages over HTTP: at an address, and through an API server's pod proxy."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer, make_mocked_request, unused_port

from agentic_serving.router.history import History
from agentic_serving.router.metrics import Metrics
from agentic_serving.router.report import Report
from agentic_serving.router.views import HeldCall
from agentic_serving.router.web import Site, make_app
from tests.unit.router.story import CONFIG, Desk, Story, Turn

from .conftest import Call

ROOT = "review/r1"


@contextmanager
def served(app: web.Application, *, host: str = "127.0.0.1", port: int | None = None) -> Iterator[str]:
    """An application in a thread with a loop of its own, as the command has the test's."""
    loop = asyncio.new_event_loop()
    server = TestServer(app, loop=loop, host=host, port=port)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start_server(), loop).result()
        yield str(server.make_url("")).rstrip("/")
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Scheduler:
    """A site with a story of a run of two sessions, of which one is held."""

    def __init__(self, *, active: bool = True) -> None:
        desk, metrics, report, history = (
            Desk.with_replicas("chat-0", "chat-1"),
            Metrics(CONFIG),
            Report(CONFIG),
            History(),
        )
        story = Story([metrics, report, history])
        story.turn(Turn(recomputed={"Evicted": 70}, expected=900))
        story.task(30.0, alone_s=15.0)
        call = story.come(
            Turn(session="review/r1/child", parent=ROOT, hold_s=1, because="chat-0 is full until r2 rests")
        )
        desk.waiting = [
            HeldCall(
                call_id=call,
                program="review",
                run=ROOT,
                session="review/r1/child",
                reason="WaitsForRoom",
                since_s=story.now_s,
                until_s=story.now_s + 300,
            )
        ]
        story.now_s += 2
        self.story = story
        self.app = make_app(
            Site(
                config=CONFIG,
                metrics=metrics,
                report=report,
                history=history,
                view=desk,
                clock=lambda: story.now_s,
                ready=lambda: "",
                active=lambda: active,
            )
        )


class ApiServer:
    """As much of an API server as the commands ask: pods of a namespace, and the proxy to their port 9005."""

    def __init__(self, pods: dict[str, Scheduler | None], *, stacks: tuple[str, ...] = ("chat",)) -> None:
        self.pods, self.stacks = pods, stacks
        self.refused = ""  # a path that this user may not ask
        self.app = web.Application()
        self.app.router.add_get("/api/v1/namespaces/team/pods", self._list)
        self.app.router.add_get("/api/v1/namespaces/team/pods/{pod}:9005/proxy/{path:.*}", self._proxy)

    async def _list(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"].endswith("component=router")
        if self.refused == "list":
            return _status(403, "Forbidden")
        items = [
            {
                "metadata": {"name": f"{name}-{stack}", "labels": {"agentic-serving.dev/stack": stack}},
                "status": {"phase": "Running"},
            }
            for stack in self.stacks
            for name in self.pods
        ]
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})

    async def _proxy(self, request: web.Request) -> web.StreamResponse:
        if self.refused == "proxy":
            return _status(403, "Forbidden")
        scheduler = self.pods[request.match_info["pod"].rsplit("-", 1)[0]]
        if scheduler is None:
            return _status(503, "ServiceUnavailable")
        # As the real one: the path is unescaped once on the way.
        asked = make_mocked_request("GET", f"/{request.match_info['path']}")
        found = await scheduler.app.router.resolve(asked)
        asked._match_info = found
        found.add_app(scheduler.app)
        try:
            return await found.handler(asked)
        except web.HTTPNotFound:
            return web.json_response({"error": {"message": "no page"}}, status=404)


def _status(code: int, reason: str) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "code": code,
        "reason": reason,
        "message": f"it says {reason}",
    }
    return web.json_response(body, status=code)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(Scheduler().app) as found:
        yield found


@contextmanager
def cluster(api: ApiServer, folder: Path) -> Iterator[tuple[str, ...]]:
    """Options that name the API server."""
    with served(api.app) as url:
        path = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(yaml.safe_dump(config))
        yield ("-n", "team", "--kubeconfig", str(path))


def test_explain_run_tells_the_tree_and_each_reason(call: Call, url: str) -> None:
    result = call("explain", "run", ROOT, "--url", url)
    assert result.exit_code == 0, result.output
    assert (
        "task 1: 30.0 s in 1 turn, 0.0 s of it held; 2.0 times the 15.0 s it would take alone"
        in result.stdout
    )
    assert "800 of the prompt cached, 900 expected; computed again: 70 Evicted" in result.stdout
    lines = result.stdout.splitlines()
    child = lines.index("  review/r1/child (ClaudeCode)")
    assert lines[child + 2].endswith("Hold, WaitsForRoom: chat-0 is full until r2 rests")
    assert lines[child + 3].strip() == "held now"


@pytest.mark.parametrize("name", ["r1", "review/r1/child"])
def test_a_part_of_the_name_or_a_sessions_name_will_do(call: Call, url: str, name: str) -> None:
    assert "run review/r1" in call("explain", "run", name, "--url", url).stdout


def test_a_run_that_is_not_remembered_is_one_line_with_those_that_are(call: Call, url: str) -> None:
    result = call("explain", "run", "nobody", "--url", url)
    assert result.exit_code != 0
    assert "no such run is remembered; the newest are review/r1" in str(result.exception)


def test_explain_run_as_json_and_as_a_picture(call: Call, url: str, tmp_path: Path) -> None:
    picture = tmp_path / "run.svg"
    result = call("explain", "run", ROOT, "--url", url, "-o", "json", "--svg", picture)
    assert [s["id"] for s in json.loads(result.stdout)["sessions"]] == [ROOT, "review/r1/child"]
    root = ET.fromstring(picture.read_text())  # noqa: S314 (we wrote it)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_picture_that_cannot_be_written_is_one_line(call: Call, url: str, tmp_path: Path) -> None:
    result = call("explain", "run", ROOT, "--url", url, "--svg", tmp_path / "none" / "run.svg")
    assert "--svg" in str(result.exception)


def test_explain_still_takes_paths(
    call: Call, stack_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that is called run: alone it is a file, where there is one."""
    monkeypatch.chdir(tmp_path)
    assert call("explain", stack_file).exit_code == 0
    Path("run").write_text(stack_file.read_text())
    assert call("explain", "run").stdout == call("explain", "./run").stdout != ""


def test_explain_run_without_an_id_says_how_it_is_called(call: Call) -> None:
    result = call("explain", "run")
    assert result.exit_code == 2
    assert "explain run [OPTIONS] ID" in result.output


def test_top_prints_once_where_there_is_no_terminal(call: Call, url: str) -> None:
    result = call("top", "--url", url)
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "team/chat Enforce" in text
    assert "2 runs, 5 sessions, 3 turns in flight, 1 held (4 KiB)" in text
    assert "review 1 30.0 s 30.0 s 100.0 % 2.0x 1 0 7.0 %" in text
    assert "chat-1 Aggregated ready 0 0 3 60k 40k 100k" in text
    assert "review/r1/child review 2.0 s 5 m 00 s WaitsForRoom chat-0 is full until r2 rests" in text
    assert "review/r1 ClaudeCode 1 Away" in text


def test_top_fills_a_terminal_until_it_is_interrupted(url: str) -> None:
    ours, its = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    command = [sys.executable, "-m", "agentic_serving", "top", "--url", url]
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environ) as process:
        os.close(its)
        seen = b""
        while b"chat-0 is full until r2 rests" not in seen:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the terminal is gone once its process is
            while os.read(ours, 65536):
                pass
        assert process.wait() == 0
    os.close(ours)


def test_top_as_json_is_the_page(call: Call, url: str) -> None:
    assert json.loads(call("top", "--url", url, "-o", "json").stdout)["totals"]["held"] == 1


def test_an_address_where_nobody_listens_is_one_line(call: Call) -> None:
    result = call("top", "--url", f"http://127.0.0.1:{unused_port()}")
    assert "--url" in str(result.exception)
    assert "cannot be reached" in str(result.exception)


@pytest.mark.parametrize("bad", ["nonsense", "http://", "ftp://x"])
def test_an_address_that_is_none_is_one_line(call: Call, bad: str) -> None:
    assert "cannot be reached" in str(call("top", "--url", bad).exception)


def test_through_the_cluster_the_active_scheduler_is_asked(call: Call, tmp_path: Path) -> None:
    pods = {"a": Scheduler(active=False), "b": Scheduler()}
    with cluster(ApiServer({**pods}), tmp_path) as options:
        result = call("top", "chat", *options)
        run = call("explain", "run", ROOT, *options)
    assert "stands by" not in result.stdout
    assert "team/chat" in result.stdout
    assert "run review/r1" in run.stdout


def test_a_scheduler_that_does_not_answer_hides_no_other(call: Call, tmp_path: Path) -> None:
    with cluster(ApiServer({"a": None, "b": Scheduler(active=False)}), tmp_path) as options:
        result = call("top", *options)
    assert "stands by" in result.stdout


@pytest.mark.parametrize(
    ("api", "refused", "args", "says"),
    [
        (ApiServer({}), "", ("chat",), "there is no router"),
        (ApiServer({}), "", (), "there is no router"),
        (ApiServer({"a": None}), "", ("other",), "routers there are of: chat"),
        (ApiServer({"a": None}, stacks=("chat", "code")), "", (), "routers there are of: chat, code"),
        (ApiServer({"a": None}), "", ("chat",), "kubectl port-forward -n team pod/a-chat 9005"),
        (ApiServer({"a": None}), "list", ("chat",), "you may not list pods in namespace team"),
        (ApiServer({"a": None}), "proxy", ("chat",), "you may not get pods/proxy in namespace team"),
    ],
    ids=[
        "no router",
        "no name",
        "another stack",
        "two stacks",
        "no answer",
        "no right to list",
        "no right to ask",
    ],
)
def test_what_is_in_the_way_is_said_with_what_to_do(
    api: ApiServer, refused: str, args: tuple[str, ...], says: str, call: Call, tmp_path: Path
) -> None:
    api.refused = refused
    with cluster(api, tmp_path) as options:
        result = call("top", *args, *options)
    assert result.exit_code != 0
    assert says in str(result.exception)
