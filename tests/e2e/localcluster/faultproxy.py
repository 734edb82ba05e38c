"""A reverse proxy in front of an API server that breaks chosen calls, for tests of a client's resilience.

    with FaultProxy(cp) as proxy:
        kubeconfig = cp.user_kubeconfig("agentic-system", "operator", via=proxy)
        proxy.plan(Rule(match=matching(writes_only=True), nth={0}, action=Answer(code=503)))

It listens on loopback with a certificate of its own (client-go sends no token over plain HTTP), in a thread
of its own, so that tests with and without asyncio use it alike. Credentials pass through unchanged.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

from .calls import Call, Matcher, parse_call
from .cluster import Reachable
from .credentials import write_loopback_certificate
from .faults import (
    Action,
    Answer,
    Close,
    Delay,
    Drop,
    EventRule,
    Hang,
    Plan,
    Repeat,
    Rule,
    Run,
    status_body,
)

__all__ = ["FaultProxy", "Seen"]

_START_TIMEOUT_S = 10.0
# TLS connections close in two steps, the second one after aiohttp has called them closed (its documentation, "Graceful
# Shutdown").
_GOODBYE_S = 0.1
_HOP_BY_HOP = frozenset({"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})
# Our client sets it for the body it sends; the server sets it for the body we pass on.
_RECOMPUTED = _HOP_BY_HOP | {"content-length"}


@dataclass(slots=True, kw_only=True)
class Seen:
    """One call that came in, and what the client was answered."""

    call: Call
    injected: bool  # a rule decided about it
    at_s: float  # Unix time it came in
    code: int | None = None  # None: not answered yet; 0: never will be (hang, reset, client or server gone)


class FaultProxy:
    """See the module. `url` is what a kubeconfig names as its server."""

    def __init__(self, cluster: Reachable) -> None:
        self._upstream, ca_pem = cluster.endpoint()
        self._to_server = ssl.create_default_context(cadata=ca_pem.decode())
        self._to_clients, self._ca_pem = _server_tls()
        self._plan = Plan()
        self._seen: list[Seen] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._listening = threading.Event()
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(_START_TIMEOUT_S):
            raise RuntimeError("the fault proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def endpoint(self) -> tuple[str, bytes]:
        """URL and CA certificate (PEM), for `Cluster.user_kubeconfig(..., via=proxy)`."""
        return self.url, self._ca_pem

    def plan(self, *rules: Rule | EventRule) -> None:
        """Replace all rules; counting starts anew. Without arguments: pass everything."""
        calls = [rule for rule in rules if isinstance(rule, Rule)]
        events = [rule for rule in rules if isinstance(rule, EventRule)]
        self._plan = Plan(calls, events)

    def seen(self, match: Matcher | None = None) -> list[Seen]:
        """Calls so far, in the order they came in."""
        with self._changed:
            return [one for one in self._seen if match is None or match(one.call)]

    def forget(self) -> None:
        """Empty `seen`."""
        with self._changed:
            self._seen.clear()

    def wait_for(self, match: Matcher, *, count: int = 1, timeout_s: float = 30.0) -> list[Seen]:
        """Wait until `count` matching calls have been answered (or broken), and return the matches.

        Raises:
            TimeoutError: fewer came in time.
        """
        with self._changed:
            enough = self._changed.wait_for(
                lambda: sum(one.code is not None and match(one.call) for one in self._seen) >= count,
                timeout=timeout_s,
            )
        if not enough:
            raise TimeoutError(f"{len(self.seen(match))} of {count} calls within {timeout_s:g} s")
        return self.seen(match)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
            self._loop.run_until_complete(self._end_exchanges())
        finally:
            self._loop.close()

    async def _end_exchanges(self) -> None:
        """Those whose client left go on in tasks of their own; the session they use is closed now."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(_GOODBYE_S)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        connector = aiohttp.TCPConnector(ssl=self._to_server, limit=0)
        unlimited = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(
            connector=connector, timeout=unlimited, auto_decompress=False
        ) as self._client:
            app = web.Application(client_max_size=64 * 2**20)
            app.router.add_route("*", "/{path:.*}", self._handle)
            # Cancelling a handler when its client leaves is what ends watches and hangs.
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._to_clients)
            await site.start()
            self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
            self._listening.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = parse_call(request.method, request.raw_path, request.headers.get("User-Agent", ""))
        action = self._plan.decide(call)
        seen = Seen(call=call, injected=action is not None, at_s=time.time())
        with self._changed:
            self._seen.append(seen)
        try:
            return await self._respond(request, seen, action)
        except aiohttp.ClientError:  # the API server is away; be as silent as it is
            return _broken(request)
        finally:
            self._answered(seen, seen.code or 0)

    async def _respond(self, request: web.Request, seen: Seen, action: Action | None) -> web.StreamResponse:
        if action is not None:
            return await self._break(request, seen, action)
        if seen.call.verb == "watch":
            return await self._relay_watch(request, seen)
        response = await self._forward(request)
        seen.code = response.status
        return response

    def _answered(self, seen: Seen, code: int) -> None:
        with self._changed:
            seen.code = code
            self._changed.notify_all()

    async def _break(self, request: web.Request, seen: Seen, action: Action) -> web.StreamResponse:
        if action.when == "after" and seen.call.verb != "watch":
            await self._forward(request)
        if isinstance(action, Answer):
            seen.code = action.code
            after = {} if action.retry_after_s is None else {"Retry-After": str(action.retry_after_s)}
            body = status_body(action.code, action.reason)
            return web.Response(status=action.code, body=body, content_type="application/json", headers=after)
        if isinstance(action, Hang):
            await asyncio.Event().wait()
        if isinstance(action, Run):
            action.callback()
        return _broken(request)

    async def _forward(self, request: web.Request) -> web.Response:
        body = await request.read()
        # A client that leaves does not undo a request it has sent: the call is carried out in any case.
        return await asyncio.shield(asyncio.ensure_future(self._exchange(request, body)))

    async def _exchange(self, request: web.Request, body: bytes) -> web.Response:
        async with self._client.request(
            request.method, self._address(request), headers=_passed_on(request.headers), data=body or None
        ) as answer:
            content = await answer.read()
            return web.Response(status=answer.status, body=content, headers=_passed_on(answer.headers))

    async def _relay_watch(self, request: web.Request, seen: Seen) -> web.StreamResponse:
        headers = _passed_on(request.headers)
        async with self._client.get(self._address(request), headers=headers) as answer:
            self._answered(seen, answer.status)
            response = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            await response.prepare(request)
            with contextlib.suppress(aiohttp.ClientError):  # the API server ended the watch rudely
                async for line in self._lines(seen.call, answer):
                    await response.write(line)
            return response

    async def _lines(self, call: Call, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The watch's lines as the plan wants them; anything but JSON passes unread."""
        if answer.content_type != "application/json":
            async for chunk in answer.content.iter_any():
                yield chunk
            return
        async for line in _split(answer.content):
            action = self._plan.decide_event(call, json.loads(line))
            if isinstance(action, Close):
                if action.expired:
                    yield b'{"type":"ERROR","object":' + status_body(410) + b"}\n"
                return
            if isinstance(action, Delay):
                await asyncio.sleep(action.seconds)
            copies = 0 if isinstance(action, Drop) else action.times if isinstance(action, Repeat) else 1
            for _ in range(copies):
                yield line

    def _address(self, request: web.Request) -> URL:
        return URL(self._upstream + request.raw_path, encoded=True)


def _server_tls() -> tuple[ssl.SSLContext, bytes]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="agentic-proxy-") as folder:
        key, certificate = Path(folder) / "key.pem", Path(folder) / "certificate.pem"
        write_loopback_certificate(key, certificate)
        context.load_cert_chain(certificate, key)
        return context, certificate.read_bytes()


async def _split(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines of any length; aiohttp's own readline refuses lines over its buffer limit."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line + b"\n"


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _RECOMPUTED}


def _broken(request: web.Request) -> web.Response:
    """Close with a TCP reset rather than an orderly end, as a crashed server or a dropped NAT entry does."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:  # the client was faster
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()  # aiohttp wants one; nobody gets it
