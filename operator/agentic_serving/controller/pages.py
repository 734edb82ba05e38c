"""The schedulers' reports over HTTP, by the addresses of their pods."""

import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from agentic_serving.controller.schedulers import Silent, Unreachable
from agentic_serving.render.ports import SCHEDULER_HTTP_PORT

__all__ = ["HttpPages"]

#: Within a cluster a connection takes milliseconds. Where a NetworkPolicy keeps us out, packets are dropped.
_CONNECT_S = 1.0
_ANSWER_S = 3.0
#: 200 programs of about 1 KB, and room.
_MAX_BYTES = 1 << 20


class HttpPages:
    """Asks pods. A connection is not kept: the next question comes half a minute later."""

    def __init__(self, port: int = SCHEDULER_HTTP_PORT, *, answer_s: float = _ANSWER_S) -> None:
        self._port = port
        self._timeout = aiohttp.ClientTimeout(total=answer_s, sock_connect=min(answer_s, _CONNECT_S))

    async def programs(self, address: str) -> Mapping[str, Any]:
        """As `Pages`."""
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{self._port}/v1/programs"
        try:
            async with aiohttp.ClientSession(timeout=self._timeout) as session, session.get(url) as answer:
                body = await answer.content.read(_MAX_BYTES)
                if answer.status != 200:
                    raise Silent(f"its scheduler answers {answer.status}")
        except aiohttp.ConnectionTimeoutError as error:
            raise Unreachable(f"no connection to port {self._port}") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ConnectionRefusedError):
                raise Silent("its scheduler does not listen") from error
            raise Unreachable(f"no connection to port {self._port}: {error.os_error.strerror}") from error
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Silent("its scheduler gives no answer") from error
        return _read(body)


def _read(body: bytes) -> Mapping[str, Any]:
    try:
        data = json.loads(body)
    except ValueError as error:
        raise Silent("its scheduler answers what is not JSON") from error
    if not isinstance(data, Mapping):
        raise Silent("its scheduler answers what is not a report")
    return data
