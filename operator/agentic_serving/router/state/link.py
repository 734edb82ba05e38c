"""The connection to Valkey, or anything that speaks its protocol: pipelines of plain commands, and problems in one sentence."""

import contextlib
from collections.abc import Sequence
from typing import Any

from valkey.asyncio import Valkey, ValkeyCluster
from valkey.asyncio.retry import Retry
from valkey.backoff import NoBackoff
from valkey.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    ValkeyError,
)

from agentic_serving.errors import AgenticServingError

__all__ = ["PASSWORD_VARIABLE", "Command", "Link", "StoreError", "WrongType"]

PASSWORD_VARIABLE = "AGENTIC_SERVING_VALKEY_PASSWORD"  # noqa: S105 - the variable's name

#: A store that takes longer for a batch is away: nothing waits for it but the next batch.
_TIMEOUT_S = 1.0
_PORT = 6379

Command = tuple[Any, ...]


class StoreError(AgenticServingError):
    """The store did not do what it was asked to; the message is one sentence for people."""


class WrongType(StoreError):
    """One of our keys holds what we never write."""


class Link:
    """Connects when it is used, and again after a failure. A cluster is found out by its first answer."""

    def __init__(self, address: str, *, tls: bool, password: str | None) -> None:
        self._address = address
        self._options: dict[str, Any] = {
            "password": password or None,
            "ssl": tls,
            "socket_timeout": _TIMEOUT_S,
            "socket_connect_timeout": _TIMEOUT_S,
        }
        self._client: Valkey | ValkeyCluster | None = None
        self._cluster = False

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """All of them in one round trip; each is carried out, or none is known to be.

        Raises:
            StoreError: some were not.
        """
        try:
            replies = await self._pipeline(commands)
            if not self._cluster and any(_moved(one) for one in replies):
                await self.close()
                self._cluster = True
                replies = await self._pipeline(commands)
        except (ValkeyError, OSError, ValueError) as error:  # ValueError: an address that is none
            await self.close()
            raise self._said(error) from error
        for one in replies:
            if isinstance(one, Exception):
                raise self._said(one) from one
        return replies

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(ValkeyError, OSError):
                await client.aclose()

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        if self._client is None:
            self._client = self._connected()
        if isinstance(self._client, ValkeyCluster):
            spread = self._client.pipeline()
            for command in commands:
                spread.execute_command(*command)
            return list(await spread.execute(raise_on_error=False))
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return list(await pipeline.execute(raise_on_error=False))

    def _connected(self) -> Valkey | ValkeyCluster:
        host, port = _endpoint(self._address)
        if self._cluster:
            return ValkeyCluster(host=host, port=port, **self._options)
        return Valkey(
            host=host, port=port, single_connection_client=True, retry=Retry(NoBackoff(), 0), **self._options
        )

    def _said(self, error: Exception) -> StoreError:
        where = f"Valkey at {self._address}"
        text = str(error).strip().rstrip(".") or type(error).__name__
        if isinstance(error, AuthenticationError | AuthorizationError):
            return StoreError(f"{where} refuses the password in {PASSWORD_VARIABLE}: {text}")
        if isinstance(error, NoPermissionError):
            return StoreError(f"{where} does not allow what the journal needs (docs/state.md): {text}")
        if isinstance(error, OutOfMemoryError):
            return StoreError(f"{where} is full: raise its maxmemory (docs/state.md has sizes)")
        if isinstance(error, ReadOnlyError):
            return StoreError(f"{where} is a replica, which takes no writes: name its primary")
        if isinstance(error, BusyLoadingError):
            return StoreError(f"{where} is reading its own data after a restart")
        if isinstance(error, ResponseError) and text.startswith("WRONGTYPE"):
            return WrongType(f"{where} has keys of ours that hold something else: they are made anew")
        if isinstance(error, ResponseError):
            return StoreError(f"{where} answers: {text}")
        return StoreError(f"{where} cannot be reached: {text}")


def _moved(reply: object) -> bool:
    """An answer that only a cluster gives."""
    return isinstance(reply, ResponseError) and str(reply).startswith("MOVED ")


def _endpoint(address: str) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port`."""
    host, colon, port = address.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return address.strip("[]"), _PORT
    return host.strip("[]"), int(port)
