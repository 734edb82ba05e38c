"""Where `top` and `explain run` ask: a stack's scheduler, through the API server or at an address.

The scheduler's pages have no user names and passwords of their own; through the API server the user's own rights decide
(`get` on `pods/proxy` in the stack's namespace).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import aiohttp
import click
import orjson

from agentic_serving import names
from agentic_serving.cli.options import cluster_options
from agentic_serving.cluster import kinds
from agentic_serving.cluster.kube import connect
from agentic_serving.cluster.podproxy import pod_page
from agentic_serving.cluster.port import Cluster, Manifest
from agentic_serving.errors import Forbidden, InvalidInput, NotFound, Unavailable

__all__ = ["PORT", "Source", "Where", "open_source", "source_options"]

PORT = 9005
_TIMEOUT_S = 10.0
_SELECTOR = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY_VALUE},{names.COMPONENT_LABEL}=router"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What the user said of the scheduler."""

    stack: str | None
    namespace: str
    url: str | None
    kubeconfig: str | None
    context: str | None


class Source(Protocol):
    """A scheduler's pages."""

    async def get(self, path: str) -> dict[str, Any] | None:
        """A page's JSON; None: there is no such page.

        Raises:
            AgenticServingError: it cannot be had; the message says what to do.
        """
        ...


def source_options(function: F) -> F:
    """-n, --url and which cluster."""
    function = click.option(
        "--url",
        metavar="URL",
        help="The scheduler's address, such as http://localhost:9005 of a port-forward.",
    )(function)
    function = click.option(
        "-n", "--namespace", default="default", show_default=True, help="Namespace of the stack."
    )(function)
    return cluster_options(function)


@asynccontextmanager
async def open_source(where: Where) -> AsyncIterator[Source]:
    """The scheduler that was meant."""
    if where.url is not None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as session:
            yield _Address(where.url.rstrip("/"), session)
        return
    cluster = await connect(where.kubeconfig, where.context)
    try:
        yield await _Proxied.find(cluster, where)
    finally:
        await cluster.close()


@dataclass(frozen=True, slots=True)
class _Address:
    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str) -> dict[str, Any] | None:
        try:
            async with self.session.get(f"{self.url}{path}") as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise InvalidInput(
                "--url", f"{self.url} cannot be reached: {error or type(error).__name__}"
            ) from error
        if answer.status == 404:
            return None
        page = _object(body)
        if answer.status != 200 or page is None:
            raise InvalidInput(
                "--url", f"{self.url}{path} answered {answer.status}: is it port {PORT} of a router pod?"
            )
        return page


@dataclass(frozen=True, slots=True)
class _Proxied:
    """The router pod whose scheduler decides. `pods`: all of the stack's, for when it changes."""

    cluster: Cluster
    namespace: str
    pods: tuple[str, ...]

    @classmethod
    async def find(cls, cluster: Cluster, where: Where) -> "_Proxied":
        """
        Raises:
            InvalidInput: no stack, or several, or no router pod that runs.
        """
        try:
            listing = await cluster.list(kinds.POD, where.namespace, label_selector=_SELECTOR)
        except Forbidden as error:
            raise _forbidden("list pods", where.namespace, error) from error
        stack = _stack(where, {_stack_of(pod) for pod in listing.items})
        running = [pod["metadata"]["name"] for pod in listing.items if _stack_of(pod) == stack and _runs(pod)]
        if not running:
            raise InvalidInput(
                stack,
                f"no router pod of it runs: kubectl describe astack {stack} -n {where.namespace} says why",
            )
        return cls(cluster, where.namespace, tuple(sorted(running)))

    async def get(self, path: str) -> dict[str, Any] | None:
        """Of the active scheduler; where none is, of the first that answers."""
        pages = await asyncio.gather(*(self._page(pod, path) for pod in self.pods), return_exceptions=True)
        told = [page for page in pages if isinstance(page, dict)]
        active = [page for page in told if page.get("active")]
        if told:
            return (active or told)[0]
        for page in pages:
            if isinstance(page, BaseException):
                raise page
        return None

    async def _page(self, pod: str, path: str) -> Manifest | None:
        try:
            return await pod_page(self.cluster, self.namespace, pod, PORT, path)
        except Forbidden as error:
            raise _forbidden("get pods/proxy", self.namespace, error) from error
        except NotFound as error:
            raise Unavailable(f"router pod {pod} is gone: try again") from error
        except Unavailable as error:
            raise Unavailable(
                f"the scheduler in pod {pod} cannot be reached through the API server ({error}). Is programScheduling.mode "
                f"Off? Else: kubectl port-forward -n {self.namespace} pod/{pod} {PORT} and --url http://localhost:{PORT}"
            ) from error


def _stack(where: Where, found: set[str]) -> str:
    if where.stack is not None:
        wanted = names.label_value(where.stack)
        if wanted in found:
            return wanted
        raise InvalidInput(
            where.stack, f"there is no router of such a stack in namespace {where.namespace}; {_has(found)}"
        )
    if len(found) == 1:
        return next(iter(found))
    raise InvalidInput("STACK", f"which one? In namespace {where.namespace} {_has(found)}")


def _has(found: set[str]) -> str:
    return (
        f"routers there are of: {', '.join(sorted(found))}"
        if found
        else "there is no router: -n names another"
    )


def _stack_of(pod: Manifest) -> str:
    return str((pod["metadata"].get("labels") or {}).get(names.STACK_LABEL, ""))


def _runs(pod: Manifest) -> bool:
    going = pod["metadata"].get("deletionTimestamp")
    return not going and (pod.get("status") or {}).get("phase") == "Running"


def _forbidden(what: str, namespace: str, error: Forbidden) -> Forbidden:
    return Forbidden(
        f"you may not {what} in namespace {namespace}: ask for that right, or port-forward {PORT} of a router pod and "
        f"give --url ({error})"
    )


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        page = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return page if isinstance(page, dict) else None
