"""The part of a kubelet's own API that `kubectl logs` needs, on loopback.

The API server calls a kubelet at the address and port of its Node and does not check its certificate unless told to.
Not served: exec, attach and port-forward, which need protocols of their own.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from tests.e2e.localcluster.credentials import write_loopback_certificate

__all__ = ["KubeletApi", "LogFile"]

_POLL_S = 0.2  # how often a followed file is looked at
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class LogFile:
    """The log of one run of a container."""

    path: Path
    growing: Callable[[], bool]  # whether the run goes on


#: Finds a log: (namespace, pod, container, whether the previous run's). Raises KeyError.
FindLog = Callable[[str, str, str, bool], LogFile]


class KubeletApi:
    """To be used in one event loop. `port` is known once it is started."""

    def __init__(self, find: FindLog, folder: Path) -> None:
        self._find = find
        self._folder = folder
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        key, certificate = self._folder / "kubelet.key", self._folder / "kubelet.crt"
        write_loopback_certificate(key, certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        query, at = request.query, request.match_info
        given = {option for option in ("sinceSeconds", "sinceTime", "timestamps") if query.get(option)}
        if given - ({"timestamps"} if query.get("timestamps") == "false" else set()):
            return web.Response(status=400, text=f"lines carry no time here: {', '.join(sorted(given))}")
        try:
            previous = query.get("previous") == "true"
            log = self._find(at["namespace"], at["pod"], at["container"], previous)
        except KeyError as error:
            return web.Response(status=404, text=str(error.args[0]))
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        await _send(log, answer, follow=query.get("follow") == "true", tail=query.get("tailLines"))
        return answer


async def _send(log: LogFile, answer: web.StreamResponse, *, follow: bool, tail: str | None) -> None:
    with log.path.open("rb") as file:
        if tail is not None:
            lines = file.read().splitlines(keepends=True)
            await answer.write(b"".join(lines[len(lines) - min(int(tail), len(lines)) :]))
        while True:
            growing = log.growing()  # asked first: what is written before the end is read after it
            while chunk := file.read(_CHUNK_BYTES):
                await answer.write(chunk)
            if not (follow and growing):
                return
            await asyncio.sleep(_POLL_S)
