"""Follow some collections of the API server in a thread: what is there now, and a call at each change."""

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp

__all__ = ["Follower", "Objects", "Served"]

#: The objects of one collection by (namespace, name).
Objects = Mapping[tuple[str, str], Mapping[str, Any]]

_RETRY_S = 0.2  # the API server is being restarted, or has forgotten the version we knew
_LINE_BYTES = 16 * 1024 * 1024  # one event is one line; etcd refuses objects above 1.5 MB
_FIRST_TIMEOUT_S = 30.0


class Served(Protocol):
    """What a follower needs to know of a control plane."""

    @property
    def url(self) -> str: ...

    @property
    def ca(self) -> Path: ...

    @property
    def admin_token(self) -> str: ...


class _Gone(Exception):
    """The watch must begin anew from a list."""


class Follower:
    """Lists and watches each path (`/api/v1/services`); `changed(collections)` is called in the follower's thread.

    The first call is made once every collection has been listed, before `with` is entered.
    """

    def __init__(
        self, cluster: Served, paths: Sequence[str], changed: Callable[[Mapping[str, Objects]], None]
    ) -> None:
        self._cluster = cluster
        self._paths = tuple(paths)
        self._changed = changed
        self._objects: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listed = threading.Event()
        self._error: BaseException | None = None
        self._told = False
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listed.wait(_FIRST_TIMEOUT_S):
            self.close()
            raise TimeoutError(f"the API server did not list {', '.join(self._paths)}")
        self.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop following. A second call does nothing.

        Raises:
            Whatever ended the thread before, such as an error of `changed`, unless `check` has told.
        """
        loop = self._loop
        if loop is not None and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                loop.call_soon_threadsafe(self._cancel)
            self._thread.join()
        if not self._told:
            self.check()

    def check(self) -> None:
        """Raises: whatever has ended the thread, each time."""
        if self._error is not None:
            self._told = True
            raise self._error

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        try:
            asyncio.run(self._follow_all())
        except asyncio.CancelledError:
            pass
        except BaseExceptionGroup as group:
            self._error = group.exceptions[0]  # of the first collection; the others were cancelled
        except BaseException as error:  # noqa: BLE001 - handed to the thread that enters, checks or closes
            self._error = error
        finally:
            self._listed.set()

    async def _follow_all(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        trust = ssl.create_default_context(cafile=str(self._cluster.ca))
        headers = {"Authorization": f"Bearer {self._cluster.admin_token}"}
        async with (
            aiohttp.ClientSession(
                self._cluster.url, headers=headers, connector=aiohttp.TCPConnector(ssl=trust),
                timeout=aiohttp.ClientTimeout(total=None, connect=10), read_bufsize=_LINE_BYTES,
            ) as session,
            asyncio.TaskGroup() as all_paths,
        ):  # fmt: skip
            for path in self._paths:
                all_paths.create_task(self._follow(session, path))

    async def _follow(self, session: aiohttp.ClientSession, path: str) -> None:
        while True:
            try:
                version = await self._list(session, path)
                await self._watch(session, path, version)
            except (aiohttp.ClientError, OSError, TimeoutError, _Gone):
                await asyncio.sleep(_RETRY_S)

    async def _list(self, session: aiohttp.ClientSession, path: str) -> str:
        async with session.get(path) as answer:
            answer.raise_for_status()
            document = await answer.json()
        self._objects[path] = {_key(item): item for item in document["items"]}
        self._tell()
        return str(document["metadata"]["resourceVersion"])

    async def _watch(self, session: aiohttp.ClientSession, path: str, version: str) -> None:
        query = {"watch": "1", "resourceVersion": version}
        async with session.get(path, params=query) as answer:
            answer.raise_for_status()
            try:
                async for line in answer.content:
                    self._take(path, json.loads(line))
            finally:
                # Else TLS says goodbye for up to 30 s, longer than this loop lives once it is told to stop.
                if answer.connection is not None and answer.connection.transport is not None:
                    answer.connection.transport.abort()

    def _take(self, path: str, event: Mapping[str, Any]) -> None:
        if event["type"] == "ERROR":
            raise _Gone
        item = event["object"]
        if event["type"] == "DELETED":
            self._objects[path].pop(_key(item), None)
        else:
            self._objects[path][_key(item)] = item
        self._tell()

    def _tell(self) -> None:
        if len(self._objects) == len(self._paths):
            self._changed(self._objects)
            self._listed.set()


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
