"""A container's probes: what they ask, and when an answer counts.

Source: https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from .grpchealth import grpc_health

__all__ = ["Answer", "Exec", "ProbeSpec", "Tally", "ask", "http_get", "port_number"]

#: Runs a command in the container: (argv, timeout in seconds) to (exit code, output).
Exec = Callable[[list[str], float], Awaitable[tuple[int, str]]]

_BODY_SHOWN = 200  # characters of an answer in an event


@dataclass(frozen=True, slots=True)
class Answer:
    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSpec:
    """The times of a probe, with the API server's defaults."""

    handler: Mapping[str, Any]
    initial_delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int

    @staticmethod
    def of(probe: Mapping[str, Any]) -> "ProbeSpec":
        return ProbeSpec(
            handler=probe,
            initial_delay_s=probe.get("initialDelaySeconds", 0),
            period_s=probe.get("periodSeconds", 10),
            timeout_s=probe.get("timeoutSeconds", 1),
            success_threshold=probe.get("successThreshold", 1),
            failure_threshold=probe.get("failureThreshold", 3),
        )


class Tally:
    """Counts answers in a row."""

    def __init__(self, success_threshold: int, failure_threshold: int) -> None:
        self._needed = {True: success_threshold, False: failure_threshold}
        self._last: bool | None = None
        self._run = 0

    def record(self, *, ok: bool) -> bool | None:
        """The verdict once enough equal answers came in a row; None before."""
        self._run = self._run + 1 if ok == self._last else 1
        self._last = ok
        return ok if self._run >= self._needed[ok] else None


def port_number(port: int | str, container: Mapping[str, Any]) -> int:
    """A probe's port, which may be the name of one of the container's.

    Raises:
        ValueError: no port of that name.
    """
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for known in container.get("ports", ()):
        if known.get("name") == port:
            return int(known["containerPort"])
    raise ValueError(f"no port is named {port}")


async def ask(spec: ProbeSpec, container: Mapping[str, Any], ip: str, run: Exec) -> Answer:
    """Ask once; a failure to ask is an answer too."""
    try:
        async with asyncio.timeout(spec.timeout_s):
            return await _asked(spec, container, ip, run)
    except TimeoutError:
        return Answer(ok=False, message=f"no answer within {spec.timeout_s:g} s")
    except (OSError, aiohttp.ClientError, ValueError) as error:
        return Answer(ok=False, message=str(error) or type(error).__name__)


async def _asked(spec: ProbeSpec, container: Mapping[str, Any], ip: str, run: Exec) -> Answer:
    handler = spec.handler
    if "httpGet" in handler:
        return await http_get(handler["httpGet"], container, ip)
    if "tcpSocket" in handler:
        target = handler["tcpSocket"]
        _, writer = await asyncio.open_connection(
            target.get("host") or ip, port_number(target["port"], container)
        )
        writer.close()
        return Answer(ok=True)
    if "grpc" in handler:
        ok = await grpc_health(ip, handler["grpc"]["port"], handler["grpc"].get("service") or "")
        return Answer(ok=ok, message="" if ok else "the gRPC health service does not answer SERVING")
    code, output = await run(list(handler["exec"]["command"]), spec.timeout_s)
    return Answer(ok=code == 0, message=output[-_BODY_SHOWN:])


async def http_get(target: Mapping[str, Any], container: Mapping[str, Any], ip: str) -> Answer:
    """GET as a kubelet does: any status from 200 to 399 is success, certificates are not checked."""
    scheme = str(target.get("scheme") or "HTTP").lower()
    host, port = target.get("host") or ip, port_number(target["port"], container)
    url = f"{scheme}://{host}:{port}/{str(target.get('path') or '/').lstrip('/')}"
    headers = {"User-Agent": "kube-probe/1.36", "Accept": "*/*", "Connection": "close"}
    headers |= {header["name"]: header["value"] for header in target.get("httpHeaders", ())}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, ssl=False) as answer,
    ):
        text = (await answer.content.read(_BODY_SHOWN)).decode(errors="replace")
        return Answer(ok=200 <= answer.status < 400, message=f"HTTP status {answer.status}: {text}")
