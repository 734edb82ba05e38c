"""processnode.follow: what is there, what changes, and beginning anew when the API server has forgotten."""

import json
import queue
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.localcluster.credentials import write_loopback_certificate
from tests.e2e.processnode.follow import Follower, Objects

PATH = "/api/v1/things"
_TIMEOUT_S = 20.0


@dataclass(kw_only=True)
class Api:
    """A server of one collection: lists and watches are answered from queues, each watch until a None."""

    url: str
    ca: Path
    lists: "queue.Queue[list[str]]"
    events: "queue.Queue[dict[str, Any] | None]"
    admin_token: str = "secret"

    def tell(self, kind: str, *names: str) -> None:
        for name in names:
            self.events.put({"type": kind, "object": _thing(name)})


def _thing(name: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name}}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    write_loopback_certificate(key, certificate)
    lists: queue.Queue[list[str]] = queue.Queue()
    events: queue.Queue[dict[str, Any] | None] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Authorization"] == "Bearer secret"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            if "watch=1" not in self.path:
                items = [_thing(name) for name in lists.get(timeout=_TIMEOUT_S)]
                self.wfile.write(json.dumps({"metadata": {"resourceVersion": "1"}, "items": items}).encode())
                return
            while (event := events.get()) is not None:
                self.wfile.write(json.dumps(event).encode() + b"\n")
                self.wfile.flush()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Api(url=f"https://127.0.0.1:{server.server_port}", ca=certificate, lists=lists, events=events)
        events.put(None)
        server.shutdown()
        thread.join()


class Seen:
    """The names at each call, in order."""

    def __init__(self) -> None:
        self._calls: queue.Queue[set[str]] = queue.Queue()

    def __call__(self, collections: Mapping[str, Objects]) -> None:
        self._calls.put({name for _, name in collections[PATH]})

    def next(self) -> set[str]:
        return self._calls.get(timeout=_TIMEOUT_S)


def test_what_is_there_is_known_on_entry_and_changes_follow(api: Api) -> None:
    seen = Seen()
    api.lists.put(["a", "b"])
    with Follower(api, [PATH], seen):
        assert seen.next() == {"a", "b"}
        api.tell("ADDED", "c")
        api.tell("DELETED", "a")
        api.tell("MODIFIED", "b")
        assert [seen.next() for _ in range(3)] == [{"a", "b", "c"}, {"b", "c"}, {"b", "c"}]


@pytest.mark.parametrize(
    "last", [None, {"type": "ERROR", "object": {"code": 410}}], ids=["the watch ends", "410 Gone"]
)
def test_it_begins_anew_with_a_list(api: Api, last: dict[str, Any] | None) -> None:
    seen = Seen()
    api.lists.put(["a"])
    with Follower(api, [PATH], seen):
        assert seen.next() == {"a"}
        api.events.put(last)
        if last is not None:
            api.events.put(None)  # the server ends that answer too
        api.lists.put(["b"])
        assert seen.next() == {"b"}, "what went while nobody watched is gone"
        api.tell("ADDED", "c")
        assert seen.next() == {"b", "c"}


def test_an_error_of_the_callers_is_told_and_told_again(api: Api) -> None:
    failed = threading.Event()

    def changed(collections: Mapping[str, Objects]) -> None:
        if len(collections[PATH]) > 1:
            failed.set()
            raise ValueError("two are too many")

    api.lists.put(["a"])
    with Follower(api, [PATH], changed) as follower:
        follower.check()
        api.tell("ADDED", "b")
        assert failed.wait(_TIMEOUT_S)
        follower._thread.join(_TIMEOUT_S)
        for _ in range(2):
            with pytest.raises(ValueError, match="two are too many"):
                follower.check()
