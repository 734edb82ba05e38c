"""controller.handlers: kopf against a small API server: events arrive, selectors are sent, nothing is ever written."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from agentic_serving.cluster import kinds
from agentic_serving.cluster.access import Access
from agentic_serving.cluster.port import Kind, Manifest
from agentic_serving.controller.handlers import KopfSource
from agentic_serving.controller.source import WatchPlan
from agentic_serving.errors import Unavailable

SELECTOR = "app.kubernetes.io/managed-by=agentic-serving"
PLAN = WatchPlan(selectors={kinds.STACK: "", kinds.SERVICE: SELECTOR})


def stack(version: int, **metadata: object) -> Manifest:
    named = {"name": "chat", "namespace": "ns", "uid": "u1", "resourceVersion": str(version), **metadata}
    return {"metadata": named, "spec": {}}


class SmallApiServer:
    """Discovery, lists and one watch per kind; everything it is asked is recorded."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.authorizations: set[str] = set()
        self.events: asyncio.Queue[Manifest] = asyncio.Queue()
        self.forbidden = False

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, dict(request.query)))
        self.authorizations.add(request.headers.get("Authorization", ""))
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        if self.forbidden:
            return web.json_response({"kind": "Status", "code": 403, "message": "no"}, status=403)
        if request.query.get("watch"):
            return await self._watch(request)
        items = [stack(1)] if "agenticservingstacks" in request.path else []
        return web.json_response({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while "agenticservingstacks" in request.path:
            await response.write(json.dumps(await self.events.get()).encode() + b"\n")
        await asyncio.Event().wait()
        return response


def _resources(*kind_names: tuple[str, str]) -> Manifest:
    entries = [
        {
            "name": plural,
            "singularName": "",
            "kind": kind,
            "namespaced": True,
            "verbs": ["list", "watch", "patch"],
        }
        for plural, kind in kind_names
    ]
    return {"resources": entries}


def _group(name: str, version: str) -> Manifest:
    return {"name": name, "preferredVersion": {"version": version}, "versions": [{"version": version}]}


#: kopf waits until it has found namespaces and CRDs, although it is told not to look at any.
DISCOVERY: dict[str, Manifest] = {
    "/api": {"versions": ["v1"]},
    "/api/v1": _resources(("services", "Service"), ("namespaces", "Namespace")),
    "/apis": {
        "groups": [_group(kinds.STACK.group, kinds.STACK.version), _group("apiextensions.k8s.io", "v1")]
    },
    "/apis/apiextensions.k8s.io/v1": _resources(("customresourcedefinitions", "CustomResourceDefinition")),
    f"/apis/{kinds.STACK.api_version}": _resources((kinds.STACK.plural, kinds.STACK.kind)),
}


class Watcher:
    """A running source and what it delivered."""

    def __init__(self, server: SmallApiServer, url: str) -> None:
        self.server = server
        self.seen: asyncio.Queue[tuple[Kind, Manifest, bool]] = asyncio.Queue()
        self.started = asyncio.Event()

        async def access() -> Access:
            return Access(server=url, authorization="Bearer secret")

        self.task = asyncio.create_task(KopfSource(access).run(PLAN, self._deliver, self.started.set))

    def _deliver(self, kind: Kind, obj: Manifest, *, deleted: bool) -> None:
        self.seen.put_nowait((kind, obj, deleted))

    async def next(self) -> tuple[Kind, Manifest, bool]:
        return await asyncio.wait_for(self.seen.get(), 20)


@asynccontextmanager
async def watching() -> AsyncIterator[Watcher]:
    server = SmallApiServer()
    async with server.serve() as url:
        watcher = Watcher(server, url)
        try:
            yield watcher
        finally:
            watcher.task.cancel()
            await asyncio.gather(watcher.task, return_exceptions=True)


async def test_lists_changes_and_deletions_arrive_with_their_kind() -> None:
    async with watching() as watcher:
        kind, obj, deleted = await watcher.next()
        assert (kind, obj["kind"], obj["metadata"]["name"], deleted) == (
            kinds.STACK,
            "AgenticServingStack",
            "chat",
            False,
        )
        watcher.server.events.put_nowait({"type": "MODIFIED", "object": stack(2)})
        _, obj, deleted = await watcher.next()
        assert (obj["metadata"]["resourceVersion"], deleted) == ("2", False)
        watcher.server.events.put_nowait({"type": "DELETED", "object": stack(3)})
        assert (await watcher.next())[2] is True
        assert watcher.started.is_set()


async def test_nothing_is_written_and_children_are_selected_by_the_server() -> None:
    """kopf's own finalizer on an object of ours stays, too: it would be somebody else's."""
    async with watching() as watcher:
        await watcher.next()
        foreign = stack(2, finalizers=["kopf.zalando.org/KopfFinalizerMarker"])
        watcher.server.events.put_nowait({"type": "MODIFIED", "object": foreign})
        await watcher.next()
        watcher.server.events.put_nowait({"type": "MODIFIED", "object": stack(3)})
        await watcher.next()
        asked = watcher.server.asked
        assert {method for method, _, _ in asked} == {"GET"}
        services = [query for _, path, query in asked if path == "/api/v1/services"]
        assert services
        assert {q.get("labelSelector") for q in services} == {SELECTOR}
        assert watcher.server.authorizations == {"Bearer secret"}


async def test_it_stops_at_once() -> None:
    async with watching() as watcher:
        await watcher.next()
        began_s = time.monotonic()
        watcher.task.cancel()
        await asyncio.gather(watcher.task, return_exceptions=True)
        assert time.monotonic() - began_s < 5


async def test_streams_that_are_refused_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentic_serving.controller.handlers._ERROR_BACKOFFS_S", (0.01,))
    async with watching() as watcher:
        await watcher.next()
    server = SmallApiServer()
    server.forbidden = True
    async with server.serve() as url:
        watcher = Watcher(server, url)
        with pytest.raises(Unavailable, match="watch streams ended"):
            await asyncio.wait_for(watcher.task, 20)
