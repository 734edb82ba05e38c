"""The agent's connection to the API server: JSON over one session, and collections kept current by a watch."""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

__all__ = ["Api", "ApiError", "Informer", "Manifest"]

Manifest = dict[str, Any]
#: Called with a change and the object: "ADDED", "MODIFIED" or "DELETED".
Changed = Callable[[str, Manifest], None]

_STRATEGIC = "application/strategic-merge-patch+json"
_RETRY_S = 0.5  # the API server may be restarted by a test
_LINE_BYTES = 16 * 1024 * 1024  # an event is one line; the server stores objects of at most 1.5 MB
_TIMEOUT = aiohttp.ClientTimeout(total=30)
_TRANSIENT = (aiohttp.ClientError, TimeoutError, ConnectionError)


class ApiError(RuntimeError):
    """The API server refused."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Api:
    """Speaks as the administrator. To be made and closed in its event loop."""

    def __init__(self, url: str, ca_pem: bytes, token: str) -> None:
        context = ssl.create_default_context(cadata=ca_pem.decode())
        self._session = aiohttp.ClientSession(
            url,
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            headers={
                "Authorization": f"Bearer {token}",
                "Accept": "application/json",
                "User-Agent": "process-node",
            },
            read_bufsize=_LINE_BYTES,
        )

    async def close(self) -> None:
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
    ) -> Manifest:
        """One request, repeated while the server is not there.

        Raises:
            ApiError: an answer of 400 or above that is no passing trouble.
        """
        data = None if body is None else json.dumps(body)
        while True:
            try:
                async with self._session.request(
                    method, path, data=data, headers={"Content-Type": content}, timeout=_TIMEOUT
                ) as answer:
                    text = await answer.text()
                    if answer.status < 400:
                        return dict(json.loads(text))
                    if answer.status not in (429, 500, 502, 503, 504):
                        raise ApiError(answer.status, text)
            except _TRANSIENT:
                pass
            await asyncio.sleep(_RETRY_S)

    async def merge(self, path: str, patch: Mapping[str, Any]) -> Manifest:
        """Strategic merge patch: lists with a key are merged by it."""
        return await self.call("PATCH", path, patch, content=_STRATEGIC)

    async def stream(self, path: str) -> aiohttp.ClientResponse:
        """An open answer, for a watch."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        return await self._session.get(path, timeout=timeout)


class Informer:
    """The objects of one collection as they are now, by (namespace, name)."""

    def __init__(self, api: Api, path: str, changed: Changed, *, selector: str = "") -> None:
        self._api = api
        self._path = path
        self._query = f"fieldSelector={selector}&" if selector else ""
        self._changed = changed
        self.items: dict[tuple[str, str], Manifest] = {}
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """List, then watch, and again when a watch ends; until cancelled."""
        while True:
            try:
                await self._follow(await self._list())
            except (*_TRANSIENT, ApiError, ValueError):
                await asyncio.sleep(_RETRY_S)

    async def _list(self) -> str:
        listed = await self._api.call("GET", f"{self._path}?{self._query}")
        found = {_key(item): item for item in listed.get("items") or ()}
        for key in [key for key in self.items if key not in found]:
            self._apply("DELETED", self.items[key])
        for key, item in found.items():
            if (
                self.items.get(key, {}).get("metadata", {}).get("resourceVersion")
                != item["metadata"]["resourceVersion"]
            ):
                self._apply("ADDED", item)
        self.synced.set()
        return str(listed["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> None:
        path = f"{self._path}?{self._query}watch=1&allowWatchBookmarks=true&resourceVersion={version}"
        async with await self._api.stream(path) as answer:
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return  # the version is too old: list again
                if event["type"] != "BOOKMARK":
                    self._apply(event["type"], event["object"])

    def _apply(self, change: str, item: Manifest) -> None:
        known = self.items.get(_key(item))
        if change == "DELETED":
            self.items.pop(_key(item), None)
        elif known is not None and known["metadata"]["uid"] != item["metadata"]["uid"]:
            self._changed("DELETED", known)  # replaced by another of the same name while nobody watched
            self.items[_key(item)] = item
        else:
            self.items[_key(item)] = item
        self._changed(change, item)


def _key(item: Manifest) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
