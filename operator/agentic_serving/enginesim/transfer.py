"""P/D transfer: a prefill engine holds blocks for a decode engine, which asks for them over the side channel.

The protocol of the parameters is NIXL's in vLLM 0.33.0 (vllm/distributed/kv_transfer/kv_connector/v1/nixl); the side
channel itself is a small HTTP server of our own at VLLM_NIXL_SIDE_CHANNEL_HOST and _PORT: POST /claim tells
whether blocks are still held, POST /done frees them. Simulated engines understand each other, not a real vLLM.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from agentic_serving.enginesim.engine import Job, Observer
from agentic_serving.enginesim.faults import Fault
from agentic_serving.enginesim.options import ServeOptions
from agentic_serving.fleet.types import Finished

__all__ = ["Connectors", "Transfer", "connectors_of"]

#: Seconds that a prefill engine holds blocks: `kv_lease_duration` of the NIXL connector.
_LEASE_S = 30.0
_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connectors:
    """The connectors of `--kv-transfer-config`, those inside a MultiConnector too."""

    configs: tuple[Mapping[str, Any], ...] = ()
    fails_on_load_error: bool = False

    def find(self, *names: str) -> Mapping[str, Any] | None:
        """The first of these names."""
        return next((c for c in self.configs if c.get("kv_connector") in names), None)

    @property
    def p2p(self) -> Mapping[str, Any] | None:
        return self.find("NixlConnector", "NixlPullConnector", "MooncakeConnector")


def connectors_of(config: Mapping[str, Any]) -> Connectors:
    """What `--kv-transfer-config` names."""
    if not config.get("kv_connector"):
        return Connectors()
    inner = (config.get("kv_connector_extra_config") or {}).get("connectors")
    configs = tuple(inner) if config["kv_connector"] == "MultiConnector" and inner else (config,)
    return Connectors(
        configs=configs, fails_on_load_error=config.get("kv_load_failure_policy", "fail") == "fail"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Blocks that wait to be fetched."""

    job: Job
    expires_s: float  # on the event loop's clock


@dataclass(slots=True)
class Transfer(Observer):
    """Both sides of P/D.

    Args:
        release: frees the held blocks of a request, by the engine's id.
    """

    options: ServeOptions
    host: str
    port: int
    connectors: Connectors
    engine_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    release: Callable[[str], bool] = lambda _: False
    lease_s: float = _LEASE_S
    _held: dict[str, _Held] = field(default_factory=dict)
    _session: aiohttp.ClientSession | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether the request's blocks stay for a decode engine."""
        return self.connectors.p2p is not None and bool(params.get("do_remote_decode"))

    def offer(self, job: Job, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """What to give to the decode engine; None: nothing is held."""
        if not self.holds(params) or job.id not in self._held:
            return None
        blocks = len(job.prompt) // self.options.block_tokens
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [list(range(blocks))],
            "remote_engine_id": self.engine_id,
            "remote_request_id": job.id,
            "remote_host": self.host,
            "remote_port": self.port,
            "tp_size": 1,
            "dcp_size": 1,
            "pp_size": 1,
            "remote_num_tokens": len(job.prompt),
            "remote_blocks_expiry_time": time.time() + self.lease_s,
            "remote_registration_generation": 0,
            "transfer_mode": "pull",
        }

    async def remote_tokens(self, params: Mapping[str, Any], prompt_tokens: int) -> int:
        """Prompt tokens that a prefill engine holds for us.

        Raises:
            Fault: 500, it holds none, and `kv_load_failure_policy` is fail.
        """
        if self.connectors.p2p is None or not params.get("do_remote_prefill"):
            return 0
        claimed = await self._ask("claim", params)
        if claimed is None:
            if self.connectors.fails_on_load_error:
                raise Fault("Internal server error", kind="InternalServerError", status=500)
            return 0
        return min(int(claimed), prompt_tokens)

    def finished(self, job: Job, finished: Finished) -> None:  # noqa: ARG002 - an observer's signature
        """Start the lease of held blocks; tell the other side that fetched ones are here."""
        if job.hold_kv:
            expires_s = asyncio.get_running_loop().time() + self.lease_s
            self._held[job.id] = _Held(job=job, expires_s=expires_s)
            asyncio.get_running_loop().call_at(expires_s, self._expire, job.id)
        if job.remote_tokens:
            self._background(self._done(job.source))

    def aborted(self, job: Job) -> None:
        """The other side need not wait for its lease."""
        if job.remote_tokens:
            self._background(self._done(job.source))

    def application(self) -> web.Application:
        """The side channel's server."""
        application = web.Application()
        application.router.add_post("/claim", self._claim)
        application.router.add_post("/done", self._freed)
        return application

    async def idle(self) -> None:
        """Return when the other side has been told everything."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _expire(self, job_id: str) -> None:
        if self._held.pop(job_id, None) is not None:
            self.release(job_id)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _done(self, params: Mapping[str, Any]) -> None:
        await self._ask("done", params)

    async def _ask(self, what: str, params: Mapping[str, Any]) -> int | None:
        """The other side's answer; None: it does not hold the blocks, or does not answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        url = f"http://{params.get('remote_host')}:{params.get('remote_port')}/{what}"
        try:
            async with self._session.post(url, json={"id": params.get("remote_request_id")}) as answer:
                return int((await answer.json())["tokens"]) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
            return None

    async def _claim(self, request: web.Request) -> web.Response:
        held = self._held.get((await request.json()).get("id"))
        if held is None:
            return web.json_response({"tokens": 0}, status=404)
        return web.json_response({"tokens": len(held.job.prompt)})

    async def _freed(self, request: web.Request) -> web.Response:
        job_id = (await request.json()).get("id")
        self._expire(job_id)
        return web.json_response({"tokens": 0})
