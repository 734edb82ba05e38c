"""`lmcache server`: which chunks there are, for the simulated engines of the pod.

Requests come over HTTP on `--port` (LMCache's own protocol is ZMQ: a real engine does not understand this server).
Health and metrics are on `--http-port` under LMCache's paths and names.
"""

import argparse
import asyncio
import contextlib
import json
import logging
from pathlib import Path

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from agentic_serving.enginesim.lmcache.store import ChunkStore

__all__ = ["Server", "heartbeats", "server_of"]

log = logging.getLogger(__name__)

_GIB = 2**30
#: Seconds between two heartbeats to the coordinator.
_HEARTBEAT_S = 2.0


class Server:
    """One server's chunks, with its two applications."""

    def __init__(self, store: ChunkStore, chunk_tokens: int, instance: str) -> None:
        self.store = store
        self.chunk_tokens = chunk_tokens
        self.instance = instance
        self.registry = CollectorRegistry()
        self._requested = self._counter("lookup_requested_tokens")
        self._hit = self._counter("lookup_hit_tokens")
        self._hit_memory = self._counter("lookup_hit_l1_tokens")
        self._hit_folder = self._counter("lookup_hit_l2_tokens")
        self._written = self._counter("l1_write_keys")
        gauges = {
            "l1_memory_usage_bytes": lambda: store.held_bytes,
            "l1_usage_ratio": lambda: (
                store.held_bytes / store.capacity_bytes if store.capacity_bytes else 0.0
            ),
        }
        for name, value in gauges.items():
            Gauge(f"lmcache_mp_{name}", name, registry=self.registry).set_function(value)
        evicted = Gauge("lmcache_mp_l1_evicted_keys", "Keys evicted from L1.", registry=self.registry)
        evicted.set_function(lambda: store.evicted)

    def requests(self) -> web.Application:
        """What engines ask."""
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/lookup", self._lookup)
        app.router.add_post("/store", self._store)
        return app

    def outside(self) -> web.Application:
        """Health, metrics and control."""
        app = web.Application()
        app.router.add_get("/healthcheck", self._health)
        app.router.add_get("/status", self._status)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/cache/clear", self._clear)
        return app

    def _counter(self, name: str) -> Counter:
        return Counter(f"lmcache_mp_{name}", name, registry=self.registry)

    async def _lookup(self, request: web.Request) -> web.Response:
        keys = (await request.json())["keys"]
        found = self.store.lookup(keys)
        self._requested.inc(len(keys) * self.chunk_tokens)
        self._hit.inc(found.total * self.chunk_tokens)
        self._hit_memory.inc(found.memory * self.chunk_tokens)
        self._hit_folder.inc(found.folder * self.chunk_tokens)
        return web.json_response({"chunks": found.total, "chunk_tokens": self.chunk_tokens})

    async def _store(self, request: web.Request) -> web.Response:
        body = await request.json()
        new = self.store.store(body["keys"], int(body["chunk_bytes"]))
        self._written.inc(new)
        return web.json_response({"stored": new})

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "healthy"})

    async def _status(self, _: web.Request) -> web.Response:
        held = {"chunks": len(self.store), "bytes": self.store.held_bytes, "chunk_tokens": self.chunk_tokens}
        return web.json_response({"instance_id": self.instance, "l1": held})

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _clear(self, _: web.Request) -> web.Response:
        self.store.clear()
        return web.json_response({"status": "ok"})


def server_of(options: argparse.Namespace) -> Server:
    """The server that a command line describes."""
    adapters = [json.loads(text) for text in options.l2_adapter]
    folders = [
        Path(adapter["base_path"]) for adapter in adapters if adapter.get("type") in ("fs", "fs_native")
    ]
    store = ChunkStore(
        int(float(options.l1_size_gb or 20) * _GIB),
        watermark=float(options.eviction_trigger_watermark or 0.8),
        ratio=float(options.eviction_ratio or 0.2),
        folder=folders[0] if folders else None,
    )
    return Server(store, int(options.chunk_size or 256), options.instance_id or "enginesim")


async def heartbeats(server: Server, url: str, address: str) -> None:
    """Tell the coordinator that this server is there, until cancelled; an outage is waited out."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while True:
            body = {"address": address, "bytes": server.store.held_bytes, "chunks": len(server.store)}
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.put(f"{url}/instances/{server.instance}/heartbeat", json=body):
                    pass
            await asyncio.sleep(_HEARTBEAT_S)
