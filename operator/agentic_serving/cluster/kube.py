"""The port on a real API server, through the official client's configuration, TLS and connection pool.

Plain dicts go in and out through orjson: the client's model classes cost ten times the CPU of the exchange
itself and drop fields that they do not know. Nothing is retried, and every request has a deadline.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import orjson
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config import ConfigException

from agentic_serving import __version__, names
from agentic_serving.cluster.access import Access, access_of
from agentic_serving.cluster.answers import error_from
from agentic_serving.cluster.config import load_configuration
from agentic_serving.cluster.discovery import DISCOVERY_ACCEPT, served_kinds
from agentic_serving.cluster.port import Kind, Listing, Manifest, Seen
from agentic_serving.cluster.requests import JSON, Request, applying, encode, listing
from agentic_serving.cluster.streams import events
from agentic_serving.errors import ClusterError, Expired, Unavailable

__all__ = ["KubeCluster", "KubeOptions", "RequestObserver", "connect"]

#: A list that expires this often is being starved; the caller's back-off is the better place to wait.
_MAX_LIST_ATTEMPTS = 3
_APPLY_QUERY = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
_AGENT = f"agentic-serving/{__version__}"


class RequestObserver(Protocol):
    """Told of every request once it is over: for metrics."""

    def __call__(self, *, verb: str, kind: str, result: str, seconds: float) -> None:
        """`result` is `ok` or the error's class in lower case (`conflict`); `kind` is empty for discovery."""
        ...


def _ignore(*, verb: str, kind: str, result: str, seconds: float) -> None:
    """The observer of those who do not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeOptions:
    """Limits on one connection to an API server."""

    timeout_s: float = 30.0  # of a request as a whole; client-go's leader election and kubelet use 10 to 30
    connect_timeout_s: float = 5.0
    pool_size: int = 16  # connections; more workers than this wait for each other
    page_size: int = 500  # objects per page of a list: client-go's pager (tools/pager, defaultPageSize)
    watch_s: float = 300.0  # of one watch; client-go's reflector takes 5 to 10 minutes
    # Without a byte for so long, a watch is taken to be cut off. API servers send bookmarks every 60 s (apiserver
    # storage/cacher, defaultBookmarkFrequency); where one does not, a quiet watch just begins anew.
    watch_silence_s: float = 75.0


class _Transport(RESTClientObject):
    """The client's aiohttp session, for requests whose bodies are bytes already."""

    def session(self) -> aiohttp.ClientSession:
        if self.pool_manager is None:
            self.pool_manager = self._create_pool_manager()
        return self.pool_manager

    def arguments(self) -> dict[str, Any]:
        """What aiohttp wants per request rather than per session."""
        given = {
            "server_hostname": self.configuration.tls_server_name,
            "proxy": self.proxy,
            "proxy_headers": self.proxy_headers,
        }
        return {name: value for name, value in given.items() if value}


async def connect(
    kubeconfig: str | None,
    context: str | None,
    *,
    options: KubeOptions | None = None,
    observe: RequestObserver = _ignore,
) -> "KubeCluster":
    """A client for the cluster that the arguments, the environment or the pod name; sends nothing yet.

    Raises:
        InvalidInput: no configuration was found, or it cannot be used.
    """
    configuration = await load_configuration(kubeconfig, context)
    return KubeCluster(configuration, options or KubeOptions(), observe)


class KubeCluster:
    """A `Cluster` on a real API server."""

    def __init__(
        self, configuration: Configuration, options: KubeOptions, observe: RequestObserver = _ignore
    ) -> None:
        configuration.connection_pool_maxsize = options.pool_size
        configuration.client_session_kwargs = {"cookie_jar": aiohttp.DummyCookieJar()}
        self.host: str = configuration.host
        self._configuration = configuration
        self._transport = _Transport(configuration)
        self._options = options
        self._observe = observe
        self._timeout = aiohttp.ClientTimeout(total=options.timeout_s, sock_connect=options.connect_timeout_s)
        self._watch_timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=options.connect_timeout_s, sock_read=options.watch_silence_s
        )

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest:
        return await self._call(Request("get", kind, kind.object_path(namespace, name)))

    async def pages(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = ""
    ) -> AsyncIterator[Listing]:
        query = {"limit": str(self._options.page_size)}
        if label_selector:
            query["labelSelector"] = label_selector
        path = kind.collection_path(namespace)
        while True:
            page = await self._call(Request("list", kind, path, query=query))
            yield listing(kind, page)
            token = page["metadata"].get("continue")
            if not token:
                return
            query = {**query, "continue": token}

    async def list(self, kind: Kind, namespace: str | None = None, *, label_selector: str = "") -> Listing:
        for _ in range(_MAX_LIST_ATTEMPTS - 1):
            with contextlib.suppress(Expired):
                return await self._list_once(kind, namespace, label_selector)
        return await self._list_once(kind, namespace, label_selector)

    async def _list_once(self, kind: Kind, namespace: str | None, label_selector: str) -> Listing:
        items: list[Manifest] = []
        version = ""
        async for page in self.pages(kind, namespace, label_selector=label_selector):
            items += page.items
            version = page.resource_version
        return Listing(items, version)

    async def watch(
        self, kind: Kind, namespace: str | None = None, *, label_selector: str = "", resource_version: str
    ) -> AsyncGenerator[Seen, None]:
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": f"{self._options.watch_s:.0f}",
        } | ({"labelSelector": label_selector} if label_selector else {})
        request = Request("watch", kind, kind.collection_path(namespace), query=query)
        async with self._asked(request), self._open(request, self._watch_timeout) as response:
            if response.status != 200:
                body = await response.read()
                raise error_from(response.status, response.headers, body, asked=str(request))
            # Silence for too long ends a watch as the server's own end of it does.
            with contextlib.suppress(aiohttp.SocketTimeoutError):
                async for seen in events(kind, response.content.iter_any(), asked=str(request)):
                    yield seen

    async def apply(self, kind: Kind, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        query = _APPLY_QUERY | ({"dryRun": "All"} if dry_run else {})
        return await self._call(applying("apply", kind, manifest, query=query))

    async def apply_status(self, kind: Kind, manifest: Manifest) -> Manifest:
        return await self._call(applying("apply_status", kind, manifest, "status", query=_APPLY_QUERY))

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        path = kind.collection_path(manifest["metadata"].get("namespace"))
        query = {"fieldManager": names.FIELD_MANAGER}
        return await self._call(
            Request("create", kind, path, method="POST", content=JSON, query=query, body=manifest)
        )

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str,
        resource_version: str = "",
        propagation: str = "Background",
    ) -> None:
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": preconditions,
            "propagationPolicy": propagation,
        }
        path = kind.object_path(namespace, name)
        await self._call(Request("delete", kind, path, method="DELETE", content=JSON, body=options))

    async def served(self) -> frozenset[tuple[str, str, str]]:
        found: set[tuple[str, str, str]] = set()
        for path in ("/api", "/apis"):
            found |= served_kinds(await self._call(Request("discover", None, path, accept=DISCOVERY_ACCEPT)))
        return frozenset(found)

    async def access(self) -> Access:
        """How a second client in this process reaches the same API server."""
        return await access_of(self._configuration)

    async def close(self) -> None:
        await self._transport.close()

    async def _call(self, request: Request) -> Manifest:
        """One exchange: the answer, whole."""
        async with self._asked(request):
            async with self._open(request, self._timeout) as response:
                body = await response.read()
            if not 200 <= response.status < 300:
                raise error_from(response.status, response.headers, body, asked=str(request))
            try:
                answer: Manifest = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise Unavailable(f"{request}: the answer is not JSON; is a proxy in between?") from error
        return answer

    @contextlib.asynccontextmanager
    async def _asked(self, request: Request) -> AsyncIterator[None]:
        """One exchange, timed and told to the observer; what breaks on the way becomes an error of ours."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        result = "cancelled"
        try:
            with _unavailable(request, self._options.timeout_s):
                yield
            result = "ok"
        except ClusterError as error:
            result = type(error).__name__.lower()
            raise
        finally:
            kind = request.kind.kind if request.kind else ""
            self._observe(verb=request.verb, kind=kind, result=result, seconds=loop.time() - started_s)

    @contextlib.asynccontextmanager
    async def _open(
        self, request: Request, limits: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self._transport.session().request(
            request.method,
            self.host + request.path,
            params=request.query,
            headers=await self._headers(request),
            data=encode(request.body) if request.body is not None else None,
            timeout=limits,
            allow_redirects=False,
            **self._transport.arguments(),
        ) as response:
            try:
                yield response
            finally:
                _drop(response)

    async def _headers(self, request: Request) -> dict[str, str]:
        headers = {"User-Agent": _AGENT, "Accept": request.accept}
        if request.content:
            headers["Content-Type"] = request.content
        # Also runs the hooks that keep short-lived tokens fresh. Certificates are the session's matter.
        token = (await self._configuration.auth_settings()).get("BearerToken")
        if token and token["value"]:
            headers[token["key"]] = token["value"]
        return headers


def _drop(response: aiohttp.ClientResponse) -> None:
    """An answer that was not read to its end, as of a watch that was left: its connection goes at once, without TLS's goodbye."""
    transport = response.connection.transport if response.connection else None
    if transport is not None:
        transport.abort()


@contextlib.contextmanager
def _unavailable(request: Request, timeout_s: float) -> Iterator[None]:
    """What the network, credentials and time-outs raise, as an error of ours."""
    try:
        yield
    except TimeoutError as error:
        raise Unavailable(f"{request}: no answer within {timeout_s:g} s") from error
    except (aiohttp.ClientError, ConfigException, OSError) as error:
        # OSError and ConfigException: the token or certificate files were unreadable just now.
        raise Unavailable(f"{request}: {error or type(error).__name__}") from error
