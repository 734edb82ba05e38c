"""kopf, and nothing else of ours: watch events in, a delivery to the controller's loop out.

Only `on.startup`, `on.login` and `on.event` are used: no annotations, finalizers, peering or Events come from
kopf, and its cache, timers and retries are not relied upon (docs/decisions/0001). It runs on a loop and a thread
of its own, because at its end it cancels every task that is younger than itself.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import kopf

from agentic_serving import names
from agentic_serving.cluster.access import Access
from agentic_serving.cluster.port import Kind, Manifest
from agentic_serving.controller.source import Deliver, GetAccess, WatchPlan
from agentic_serving.errors import Bug, Unavailable

__all__ = ["KopfSource"]

_log = logging.getLogger(__name__)
_Event = tuple[Kind, Manifest, bool]
#: How long the thread may take to end. Its streams are closed at once; what remains dies with the process.
_STOP_S = 15.0

#: Four tries over 6 s; then the controller looks at what is served and permitted, and starts us again.
_ERROR_BACKOFFS_S = (1, 2, 3)


class KopfSource:
    """Watch events by kopf.

    Args:
        access: how to reach the API server; asked again whenever credentials were refused.
    """

    def __init__(self, access: GetAccess) -> None:
        self._access = access

    async def run(self, plan: WatchPlan, deliver: Deliver, started: Callable[[], None]) -> None:
        """Watch until cancelled.

        Raises:
            Unavailable: kopf ended by itself.
        """
        loop = asyncio.get_running_loop()
        mailbox = _Mailbox(loop, deliver)
        stop, ended = threading.Event(), asyncio.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                asyncio.run(self._operate(plan, mailbox, stop, loop, started))
            except BaseException as error:  # noqa: BLE001 - reported by the other thread
                failures.append(error)
            finally:
                loop.call_soon_threadsafe(ended.set)

        thread = threading.Thread(target=work, name="kopf", daemon=True)
        thread.start()
        try:
            await ended.wait()
        finally:
            stop.set()
            await asyncio.to_thread(thread.join, _STOP_S)
        raise Unavailable(f"the watch streams ended: {failures[0] if failures else 'no reason given'!r}")

    async def _operate(
        self,
        plan: WatchPlan,
        mailbox: "_Mailbox",
        stop: threading.Event,
        loop: asyncio.AbstractEventLoop,
        started: Callable[[], None],
    ) -> None:
        registry = kopf.OperatorRegistry()
        asyncio.get_running_loop().set_exception_handler(_tell_lost)

        @kopf.on.startup(registry=registry)
        async def begin(**_: object) -> None:
            loop.call_soon_threadsafe(started)

        @kopf.on.login(registry=registry)
        async def login(**_: object) -> kopf.ConnectionInfo:
            asked = asyncio.run_coroutine_threadsafe(_await(self._access), loop)
            return _connection(await asyncio.wrap_future(asked))

        for kind in plan.selectors:
            _listen(registry, kind, mailbox)
        try:
            await kopf.operator(
                registry=registry,
                settings=_settings(plan),
                standalone=True,
                clusterwide=not plan.namespaces,
                namespaces=list(plan.namespaces),
                stop_flag=stop,
            )
        finally:
            stop.set()  # kopf waits for it in a pool thread, which must end before the loop can


def _tell_lost(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """A failed task of kopf's that nobody asked for: its stream is opened again, so a line is enough.

    Not the default's traceback: it is printed whenever the task happens to be collected, and in CPython 3.11 a
    traceback that is printed during `ast.parse` breaks that call (python/cpython issue 106905).
    """
    _log.warning("%s: %r", context.get("message"), context.get("exception"))


class _Mailbox:
    """Carries events to the controller's loop; one wake-up for as many as have come meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Deliver) -> None:
        self._loop = loop
        self._deliver = deliver
        self._events: deque[_Event] = deque()
        self._woken = False

    def put(self, event: _Event) -> None:
        """On kopf's thread."""
        self._events.append(event)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        """On the controller's loop. The flag goes first: what is put after it wakes us again."""
        self._woken = False
        while self._events:
            kind, obj, deleted = self._events.popleft()
            self._deliver(kind, obj, deleted=deleted)


def _listen(registry: kopf.OperatorRegistry, kind: Kind, mailbox: _Mailbox) -> None:
    @kopf.on.event(
        group=kind.group, version=kind.version, plural=kind.plural, registry=registry, id=str(kind)
    )
    async def seen(event: kopf.RawEvent, **_: object) -> None:
        obj: Any = event["object"]
        # Items of a list come without them; kopf guesses.
        named = {**obj, "apiVersion": kind.api_version, "kind": kind.kind}
        mailbox.put((kind, named, event["type"] == "DELETED"))


async def _await(access: GetAccess) -> Access:
    return await access()


def _connection(access: Access) -> kopf.ConnectionInfo:
    scheme, _, token = access.authorization.partition(" ")
    return kopf.ConnectionInfo(
        server=access.server,
        ca_path=access.ca_file,
        ca_data=access.ca_data,
        insecure=not access.verify,
        certificate_path=access.cert_file,
        private_key_path=access.key_file,
        scheme=scheme or None,
        token=token or None,
        proxy_url=access.proxy,
    )


def _settings(plan: WatchPlan) -> kopf.OperatorSettings:
    """For long watches over many objects, without everything that writes."""
    settings = kopf.OperatorSettings()
    # Kinds and namespaces are our matter: the controller starts us again when they change.
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.persistence.finalizer = (
        f"{names.GROUP}/finalizer"  # never set; kopf removes its own where it sees it
    )
    settings.persistence.diffbase_storage = _NoEssence()
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.reconnect_backoff = 1
    settings.networking.request_timeout = 60
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = _ERROR_BACKOFFS_S
    settings.queueing.worker_limit = 100
    # Each seen object keeps a task for as long; kopf's 5 s would keep thousands of them in a storm.
    settings.queueing.idle_timeout = 1.0
    # A countdown to SIGKILL, meant for a process that is kopf alone; ours ends by itself.
    settings.process.ultimate_exiting_timeout = None
    for kind, selector in plan.selectors.items():
        if selector:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = selector
    return settings


class _NoEssence(kopf.DiffBaseStorage):
    """No diffs: kopf copies every object to find what changed, and nobody asks. Half of its CPU per event."""

    def build(self, **_: object) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: object) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: object) -> None:
        raise Bug("kopf was about to write an annotation")
