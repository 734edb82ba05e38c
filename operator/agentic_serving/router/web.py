"""The scheduler's HTTP side, port 9005: metrics, probes, and what `top`, `explain run` and the operator ask.

Knows nothing of Envoy and gRPC. It is for the pod's neighbours (NetworkPolicy), and tells no prompt or answer: names,
sizes and times only. Whatever comes, the answer is JSON and never a traceback.
"""

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from agentic_serving.router import telling
from agentic_serving.router.config import Config
from agentic_serving.router.history import History
from agentic_serving.router.metrics import Metrics
from agentic_serving.router.report import WINDOW_S, Report
from agentic_serving.router.views import Viewed

__all__ = ["PORT", "Site", "make_app", "problem"]

PORT = 9005
#: Hints are small; nothing else has a body.
_MAX_BODY_BYTES = 64 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True, kw_only=True)
class Site:
    """What the pages show. `config` is replaced when another one holds.

    Attributes:
        clock: the desk's.
        wall: now, for people.
        ready: why this scheduler is not ready; empty: it is.
        active: whether it decides, or stands by.
        store: what is wrong with the store of the state, in a sentence; empty: nothing.
    """

    config: Config
    metrics: Metrics
    report: Report
    history: History
    view: Viewed
    clock: Callable[[], float]
    ready: Callable[[], str]
    active: Callable[[], bool]
    store: Callable[[], str] = lambda: ""
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)


def make_app(site: Site, more: Iterable[web.RouteDef] = ()) -> web.Application:
    """The application; `more`: routes of others (hints)."""
    pages = _Pages(site)
    app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_told])
    app.add_routes(
        [
            web.get("/metrics", pages.metrics),
            web.get("/healthz", pages.healthz),
            web.get("/readyz", pages.readyz),
            web.get("/v1/programs", pages.programs),
            web.get("/v1/live", pages.live),
            web.get("/v1/runs", pages.runs),
            web.get("/v1/runs/{id:.+}", pages.run),  # names hold slashes
            *more,
        ]
    )
    app.on_response_prepare.append(_unsniffed)
    return app


def problem(status: int, message: str) -> web.Response:
    """An error as all of ours look."""
    return _json({"error": {"message": message}}, status)


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._site.metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, _: web.Request) -> web.Response:
        why_not = self._site.ready()
        return web.Response(text=f"{why_not or 'ok'}\n", status=503 if why_not else 200)

    async def programs(self, _: web.Request) -> web.Response:
        found = self._site.report.programs(self._site.clock())
        return _json({**self._head(), "window_s": WINDOW_S, "programs": found})

    async def live(self, _: web.Request) -> web.Response:
        site, now_s = self._site, self._site.clock()
        return _json(
            {
                **self._head(),
                **telling.live_told(site.view.live(now_s)),
                "programs": site.report.programs(now_s),
                "holds": telling.holds_told(site.view.held(now_s, telling.MAX_LISTED), site.history, now_s),
                "sessions": telling.sessions_told(site.history, now_s),
            }
        )

    async def runs(self, _: web.Request) -> web.Response:
        return _json({**self._head(), "runs": telling.runs_told(self._site.history, self._site.clock())})

    async def run(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        found = self._site.history.run(name)
        if found is None:
            return problem(
                404, f"no run or session {name[:200]!r} is remembered here; GET /v1/runs lists those that are"
            )
        return _json({**self._head(), **telling.run_told(found, self._site.clock())})

    def _head(self) -> dict[str, Any]:
        """What every answer begins with."""
        site = self._site
        return {
            "as_of": site.wall().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "namespace": site.config.namespace,
            "stack": site.config.stack,
            "mode": site.config.mode,
            "active": site.active(),
            "store_problem": site.store(),
        }


@web.middleware
async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """aiohttp's own refusals (no such page, too large) in our form."""
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        if refusal.status < 400:
            raise
        answer = problem(refusal.status, refusal.reason)
        if "Allow" in refusal.headers:
            answer.headers["Allow"] = refusal.headers["Allow"]
        return answer


async def _unsniffed(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Content-Type-Options"] = "nosniff"


def _json(value: object, status: int = 200) -> web.Response:
    try:
        body = orjson.dumps(value)
    except TypeError:  # half a surrogate pair, in what a client called its model
        body = json.dumps(value).encode()
    return web.Response(body=body, status=status, content_type="application/json")
