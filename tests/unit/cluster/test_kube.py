"""cluster.kube against a small HTTP server: what it sends, and what each kind of answer becomes."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import Configuration

from agentic_serving import __version__
from agentic_serving.cluster.kinds import CONFIG_MAP, DEPLOYMENT, STACK
from agentic_serving.cluster.kube import KubeCluster, KubeOptions
from agentic_serving.cluster.port import Seen
from agentic_serving.cluster.streams import MAX_LINE_BYTES
from agentic_serving.errors import (
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    NotFound,
    Rejected,
    Unavailable,
)
from tests.e2e.localcluster.credentials import write_loopback_certificate

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "ns"}}


class Server:
    """An API server that answers as a test tells it to, and a client for it."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.observed: list[tuple[str, str, str]] = []
        self.answer: Handler = self._empty
        self.http = TestServer(self._app())

    def client(
        self, *, timeout_s: float = 5.0, page_size: int = 500, watch_silence_s: float = 75.0
    ) -> KubeCluster:
        configuration = Configuration(host=str(self.http.make_url("")).rstrip("/"))
        configuration.api_key["BearerToken"] = "Bearer secret"
        options = KubeOptions(timeout_s=timeout_s, page_size=page_size, watch_silence_s=watch_silence_s)
        return KubeCluster(configuration, options, self._observe)

    def says(self, code: int, body: object, **headers: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            raw = body if isinstance(body, bytes) else orjson.dumps(body)
            return web.Response(status=code, body=raw, headers=headers)

        self.answer = answer

    def _app(self) -> web.Application:
        async def handle(request: web.Request) -> web.StreamResponse:
            headers = dict(request.headers)
            self.requests.append((request.method, request.path_qs, headers, await request.read()))
            return await self.answer(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        return app

    async def _empty(self, _: web.Request) -> web.Response:
        return web.json_response({})

    def _observe(self, *, verb: str, kind: str, result: str, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.observed.append((verb, kind, result))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    running = Server()
    await running.http.start_server()
    yield running
    await running.http.close()


def status(code: int, reason: str, message: str = "no", **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}


async def test_an_apply_as_it_goes_over_the_wire(server: Server) -> None:
    client = server.client()
    await client.apply(CONFIG_MAP, CONFIG)
    method, path, headers, body = server.requests[0]
    assert method == "PATCH"
    assert path == ("/api/v1/namespaces/ns/configmaps/a?fieldManager=agentic-serving-operator&force=true")
    assert headers["Content-Type"] == "application/apply-patch+yaml"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["User-Agent"] == f"agentic-serving/{__version__}"
    assert orjson.loads(body) == CONFIG
    await client.close()


async def test_a_deletion_names_the_object_it_means(server: Server) -> None:
    client = server.client()
    await client.delete(DEPLOYMENT, "ns", "a", uid="u", resource_version="7")
    method, path, _, body = server.requests[0]
    assert (method, path) == ("DELETE", "/apis/apps/v1/namespaces/ns/deployments/a")
    sent = orjson.loads(body)
    assert sent["preconditions"] == {"uid": "u", "resourceVersion": "7"}
    assert sent["propagationPolicy"] == "Background"
    await client.close()


ANSWERS = {
    "401": (401, status(401, "Unauthorized"), Forbidden),
    "403": (403, status(403, "Forbidden"), Forbidden),
    "404": (404, status(404, "NotFound"), NotFound),
    "404 of no kind": (404, b"404 page not found\n", NotFound),
    "409": (409, status(409, "Conflict"), Conflict),
    "409 exists": (409, status(409, "AlreadyExists"), Conflict),
    "410": (410, status(410, "Expired"), Expired),
    "400": (400, status(400, "BadRequest"), Rejected),
    "413": (413, status(413, "RequestEntityTooLarge"), Rejected),
    "422": (422, status(422, "Invalid"), Rejected),
    "422 of the uid": (422, status(422, "Invalid", causes=[{"field": "metadata.uid"}]), Conflict),
    "429": (429, status(429, "TooManyRequests"), Unavailable),
    "500": (500, status(500, "InternalError"), Unavailable),
    "500 of a field": (500, status(500, "", "failed to create typed patch object (...)"), Rejected),
    "503": (503, b"upstream connect error", Unavailable),
    "504": (504, status(504, "Timeout"), Unavailable),
    "302": (302, b"<html>sign in</html>", Unavailable),
    "200 of a proxy": (200, b"<html>sign in</html>", Unavailable),
}


@pytest.mark.parametrize(("code", "body", "error"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_each_answer_becomes_the_error_that_says_who_must_act(
    server: Server, code: int, body: object, error: type[ClusterError]
) -> None:
    server.says(code, body)
    client = server.client()
    with pytest.raises(error) as caught:
        await client.get(CONFIG_MAP, "ns", "a")
    assert type(caught.value) is error
    assert "get /api/v1/namespaces/ns/configmaps/a" in str(caught.value)
    assert len(server.requests) == 1, "nothing is retried here"
    assert server.observed == [("get", "ConfigMap", error.__name__.lower())]
    await client.close()


@pytest.mark.parametrize(
    ("body", "headers", "expected_s"),
    [
        (status(429, "TooManyRequests"), {"Retry-After": "3"}, 3.0),
        (status(429, "TooManyRequests", retryAfterSeconds=2), {}, 2.0),
        (status(429, "TooManyRequests"), {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        (b"busy", {}, None),
    ],
    ids=["header", "details", "date", "neither"],
)
async def test_how_long_to_wait_is_passed_on(
    server: Server, body: object, headers: dict[str, str], expected_s: float | None
) -> None:
    server.says(429, body, **headers)
    client = server.client()
    with pytest.raises(Unavailable) as caught:
        await client.get(CONFIG_MAP, "ns", "a")
    assert caught.value.retry_after_s == expected_s
    await client.close()


async def test_a_silent_server_is_unavailable_in_bounded_time(server: Server) -> None:
    released = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await released.wait()
        return web.Response()

    server.answer = hang
    client = server.client(timeout_s=0.2)
    with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
        await client.get(CONFIG_MAP, "ns", "a")
    released.set()
    await client.close()


async def test_a_closed_port_is_unavailable(server: Server) -> None:
    client = server.client()
    await server.http.close()
    with pytest.raises(Unavailable) as caught:
        await client.get(CONFIG_MAP, "ns", "a")
    assert caught.value.code == 0
    await client.close()


async def test_a_list_that_expires_half_way_starts_again(server: Server) -> None:
    pages = iter(
        [
            (
                200,
                {
                    "metadata": {"resourceVersion": "5", "continue": "next"},
                    "items": [{"metadata": {"name": "a"}}],
                },
            ),
            (410, status(410, "Expired")),
            (200, {"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "b"}}]}),
        ]
    )

    async def answer(_: web.Request) -> web.Response:
        code, body = next(pages)
        return web.json_response(body, status=code)

    server.answer = answer
    client = server.client()
    listing = await client.list(STACK, label_selector="a=b")
    assert (listing.resource_version, [i["metadata"]["name"] for i in listing.items]) == ("9", ["b"])
    assert listing.items[0]["kind"] == "AgenticServingStack"
    first, second, third = (path for _, path, _, _ in server.requests)
    assert first == "/apis/agentic-serving.dev/v1alpha1/agenticservingstacks?limit=500&labelSelector=a%3Db"
    assert (second, third) == (f"{first}&continue=next", first)
    await client.close()


async def test_a_list_that_always_expires_says_so(server: Server) -> None:
    server.says(410, status(410, "Expired"))
    client = server.client()
    with pytest.raises(Expired):
        await client.list(CONFIG_MAP)
    assert len(server.requests) == 3
    await client.close()


async def test_a_server_without_aggregated_discovery_is_named(server: Server) -> None:
    server.says(200, {"kind": "APIVersions"})
    client = server.client()
    with pytest.raises(Rejected, match="aggregated discovery"):
        await client.served()
    await client.close()


EVENT = {"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "7"}}}
GONE = {"type": "ERROR", "object": status(410, "Expired", "too old resource version")}


async def _watched(server: Server, *pieces: bytes, hang: bool = False) -> list[Seen]:
    """What a watch tells when the server sends these pieces, and then ends or falls silent."""
    told = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if hang:
            await told.wait()
        return response

    server.answer = answer
    client = server.client(watch_silence_s=0.2)
    try:
        async with asyncio.timeout(10):
            return [seen async for seen in client.watch(CONFIG_MAP, "ns", resource_version="5")]
    finally:
        told.set()
        await client.close()


async def test_events_come_in_whatever_pieces_the_network_makes(server: Server) -> None:
    line = orjson.dumps(EVENT) + b"\n"
    seen = await _watched(server, line[:10], line[10:] + line + line[:3], line[3:] + b'{"type": "ADD')
    assert [(s.happened, s.resource_version) for s in seen] == [("ADDED", "7")] * 3
    assert seen[0].object["kind"] == "ConfigMap"
    assert server.requests[0][1] == (
        "/api/v1/namespaces/ns/configmaps?watch=1&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=300"
    )
    assert server.observed == [("watch", "ConfigMap", "ok")]


async def test_a_watch_that_falls_silent_ends(server: Server) -> None:
    # A connection that is cut without a word must not leave the collection as it was for ever.
    assert len(await _watched(server, orjson.dumps(EVENT) + b"\n", hang=True)) == 1


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (orjson.dumps(GONE), Expired),
        (orjson.dumps({"type": "ERROR", "object": status(500, "InternalError")}), Unavailable),
        (b"<html>sign in</html>", Unavailable),
        (b'["ADDED"]', Unavailable),
        (b"x" * (MAX_LINE_BYTES + 1), Unavailable),
    ],
    ids=["expired", "error", "a proxy", "another shape", "no end"],
)
async def test_a_watch_that_goes_wrong_says_how(
    server: Server, line: bytes, error: type[ClusterError]
) -> None:
    with pytest.raises(error) as caught:
        await _watched(server, line + (b"\n" if len(line) < MAX_LINE_BYTES else b""))
    assert type(caught.value) is error


async def test_a_watch_that_is_left_does_not_wait_for_tlss_goodbye(tmp_path: Path) -> None:
    """A server that is gone never says it, and a loop that ends meanwhile leaves the connection open."""
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    write_loopback_certificate(key, certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(asyncio.to_thread(_one_event, listening, context))
        configuration = Configuration(host=f"https://127.0.0.1:{listening.getsockname()[1]}")
        configuration.ssl_ca_cert = str(certificate)
        client = KubeCluster(configuration, KubeOptions())
        watch = client.watch(CONFIG_MAP, "ns", resource_version="5")
        await anext(watch)
        await watch.aclose()
        assert await serving == "dropped"
        await client.close()


def _one_event(listening: socket.socket, context: ssl.SSLContext) -> str:
    """Serves one watch; how its client left."""
    listening.settimeout(10)
    plain, _ = listening.accept()
    plain.settimeout(10)
    with context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=False) as wrapped:
        wrapped.recv(65536)
        line = orjson.dumps(EVENT) + b"\n"
        wrapped.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + line)
        try:
            return "said goodbye" if wrapped.recv(1) == b"" else "asked again"
        except (ssl.SSLEOFError, ConnectionResetError):
            return "dropped"
