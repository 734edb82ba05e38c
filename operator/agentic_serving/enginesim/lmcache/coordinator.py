"""`lmcache coordinator`: which servers there are and how full they are."""

import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

__all__ = ["Coordinator"]


@dataclass(slots=True)
class Coordinator:
    """Servers by instance id; one that sends no heartbeat for `timeout_s` is forgotten."""

    timeout_s: float = 30.0  # `--instance-timeout`
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    _seen: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def application(self) -> web.Application:
        gauge = Gauge("lmcache_coordinator_instances", "Servers that are there.", registry=self.registry)
        gauge.set_function(lambda: len(self.instances()))
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/instances", self._instances)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_put("/instances/{id}/heartbeat", self._heartbeat)
        return app

    def instances(self) -> dict[str, dict[str, Any]]:
        """Servers heard of lately, with what they said."""
        now = time.monotonic()
        return {name: said for name, (at, said) in self._seen.items() if now - at < self.timeout_s}

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "healthy"})

    async def _instances(self, _: web.Request) -> web.Response:
        found = [{"instance_id": name, **said} for name, said in sorted(self.instances().items())]
        return web.json_response({"instances": found})

    async def _heartbeat(self, request: web.Request) -> web.Response:
        self._seen[request.match_info["id"]] = (time.monotonic(), await request.json())
        return web.json_response({"status": "ok"})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )
