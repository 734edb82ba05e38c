"""The containers of one pod while it lives: starting, probing, hearing of their end, commands inside, stopping."""

import asyncio
import contextlib
import itertools
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from .containers import NoCommand, PodParts, container_spec, has_probe
from .events import EventType
from .images import UnknownImage
from .lookup import Missing
from .probes import http_get
from .probing import Probing
from .records import ContainerRecord, Ended
from .runtimeclient import RuntimeFailed
from .security import Refused
from .spec import ContainerSpec

__all__ = ["MIN_GRACE_S", "Containers", "records_of"]

#: A container gets this long after SIGTERM even where preStop took all of the grace period (kubelet's
#: minimumGracePeriodInSeconds).
MIN_GRACE_S = 2.0
_CREATE_RETRY_S = 10.0  # what is missing is noticed at once; this is for what nothing tells us of
_START_ERROR = 128  # exit code that containerd reports for a program that did not start
_MESSAGE_BYTES = 4096  # of a termination message
_LOG_MESSAGE_BYTES = 2048


def records_of(spec: Mapping[str, Any]) -> list[ContainerRecord]:
    initial = [
        ContainerRecord(
            name=c["name"],
            role="sidecar" if c.get("restartPolicy") == "Always" else "init",
            reason="PodInitializing",
        )
        for c in spec.get("initContainers", ())
    ]
    waits = "PodInitializing" if initial else "ContainerCreating"
    return [
        *initial,
        *(ContainerRecord(name=c["name"], role="main", reason=waits) for c in spec["containers"]),
    ]


class Containers:
    """See the module. `changed` is called at every change that the pod's status or its next step depends on."""

    def __init__(
        self, parts: PodParts, records: list[ContainerRecord], logs: Path, changed: Callable[[], None]
    ) -> None:
        self._parts = parts
        self._node = parts.node
        self._pod = parts.context.pod
        self._logs = logs
        self._changed = changed
        self.records = {record.name: record for record in records}
        spec = self._pod["spec"]
        self.specs = {c["name"]: c for c in (*spec.get("initContainers", ()), *spec["containers"])}
        self._runs: dict[str, ContainerSpec] = {}  # the newest of each container
        self._ends: dict[str, asyncio.Event] = {}
        self._probing: dict[str, Probing] = {}  # of the newest run of each
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._commands = itertools.count()

    async def start(self, name: str) -> None:
        """Start a container; if that fails, its record says why."""
        record, container = self.records[name], self.specs[name]
        run = f"{self._pod['metadata']['uid']}/{name}/{record.runs}"
        folder = self._logs / name
        folder.mkdir(parents=True, exist_ok=True)
        termination_log = folder / f"{record.runs}.termination"
        termination_log.touch()
        termination_log.chmod(0o666)
        try:
            program = await asyncio.to_thread(self._node.resolve, container["image"])
        except (UnknownImage, RuntimeError) as error:  # RuntimeError: it could not be built or installed
            self._not_created(record, "ErrImagePull", str(error))
            return
        log = folder / f"{record.runs}.log"
        try:
            spec = container_spec(
                self._parts, container, program, key=run, log=log, termination_log=termination_log
            )
        except (Missing, Refused, NoCommand) as error:
            self._not_created(record, "CreateContainerConfigError", str(error))
        else:
            await self._start(record, container, spec)

    async def run(self, name: str, argv: list[str], timeout_s: float) -> tuple[int, str]:
        """Run a command inside a container; (exit code, output). One that takes too long is killed: 137.

        Raises:
            RuntimeFailed: it could not be started.
        """
        beside = self._runs[name]
        key = f"{beside.key}/exec-{next(self._commands)}"
        log = self._logs / name / f"{key.replace('/', '_')}.out"
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._node.exits[key] = ended.set_result
        command = ContainerSpec(
            key=key, sandbox=beside.sandbox, argv=tuple(argv), env=beside.env, cwd=beside.cwd, identity=beside.identity,
            log=str(log),
        )  # fmt: skip
        try:
            await self._node.runtime.exec(beside.key, command)
            done, _ = await asyncio.wait({ended}, timeout=timeout_s)
            if not done:
                await self._node.runtime.signal(key, signal.SIGKILL)
            return await ended, log.read_text(errors="replace")
        finally:
            if not ended.done():  # whoever asked has given up
                self._background(self._node.runtime.signal(key, signal.SIGKILL))
            log.unlink(missing_ok=True)

    async def signal(self, name: str, number: int) -> None:
        """Raises KeyError: the container does not run."""
        await self._node.runtime.signal(self._running_key(name), number)

    async def signal_all(self, name: str, number: int) -> None:
        """As `signal`, to every process of the container."""
        await self._node.runtime.signal_all(self._running_key(name), number)

    def _running_key(self, name: str) -> str:
        if self.records[name].state != "running":
            raise KeyError(f"container {name} does not run")
        return self.records[name].key

    async def stop(self, grace_s: float) -> None:
        """End all containers within the grace period: sidecars after the others, the last one first."""
        self._stopping = True
        deadline_s = time.monotonic() + grace_s
        records = list(self.records.values())
        sidecars = [r for r in records if r.role == "sidecar"]
        turns: list[tuple[ContainerRecord, list[ContainerRecord]]] = [
            (r, []) for r in records if r.role != "sidecar"
        ]
        for i, sidecar in enumerate(sidecars):
            turns.append((sidecar, [r for r in records if r.role != "sidecar"] + sidecars[i + 1 :]))
        async with asyncio.TaskGroup() as group:
            for record, before in turns:
                self._cancel_probes(record.name, keep="readiness")
                group.create_task(self._stop(record, "Stopping container", deadline_s, grace_s, before))

    def kill_soon(self) -> None:
        """End all containers at once; whoever waits for their end hears of it."""
        for record in self.records.values():
            if record.state == "running":
                self._background(self._node.runtime.signal(record.key, signal.SIGKILL))

    def close(self) -> None:
        for name in self.records:
            self._cancel_probes(name)
        for task in self._tasks:
            task.cancel()

    def _not_created(self, record: ContainerRecord, reason: str, message: str) -> None:
        record.on_not_created(reason, message, time.time(), _CREATE_RETRY_S)
        self._event("Warning", "Failed", f"Error: {reason}: {message}")
        self._changed()

    async def _start(
        self, record: ContainerRecord, container: Mapping[str, Any], spec: ContainerSpec
    ) -> None:
        record.on_started(
            spec.key, time.time(),
            has_startup_probe=has_probe(container, "startup"), has_readiness_probe=has_probe(container, "readiness"),
        )  # fmt: skip
        record.logs.append(spec.log)
        self._runs[record.name] = spec
        self._ends[record.name] = asyncio.Event()
        self._node.exits[spec.key] = lambda status: self._ended(record, spec, status)
        try:
            await self._node.runtime.start(spec)
        except RuntimeFailed as error:
            self._node.exits.pop(spec.key, None)
            self._event("Warning", "Failed", f"Error: {error}")
            self._record_end(record, spec, _START_ERROR, "StartError", str(error))
            return
        self._event("Normal", "Started", f"Container {record.name} started")
        if record.state == "running" and record.key == spec.key:
            self._probe(record, container)
        self._changed()

    def _ended(self, record: ContainerRecord, spec: ContainerSpec, status: int) -> None:
        message = self._last_words(record, spec, status)
        self._record_end(record, spec, status, "Error" if status else "Completed", message)

    def _record_end(
        self, record: ContainerRecord, spec: ContainerSpec, status: int, reason: str, message: str
    ) -> None:
        self._cancel_probes(record.name)
        record.on_ended(
            Ended(
                exit_code=status, reason=reason, message=message, key=spec.key,
                started_at_s=record.started_at_s, finished_at_s=time.time(),
            ),
            self._node.backoff,
        )  # fmt: skip
        self._ends[record.name].set()
        self._changed()

    def _last_words(self, record: ContainerRecord, spec: ContainerSpec, status: int) -> str:
        """The termination message, or the end of the log where the container asks for that."""
        container = self.specs[record.name]
        written = Path(spec.log).with_suffix(".termination").read_bytes()[:_MESSAGE_BYTES]
        if not written and status and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            written = Path(spec.log).read_bytes()[-_LOG_MESSAGE_BYTES:]
        return written.decode(errors="replace")

    def _probe(self, record: ContainerRecord, container: Mapping[str, Any]) -> None:
        async def run(argv: list[str], timeout_s: float) -> tuple[int, str]:
            return await self.run(record.name, argv, timeout_s)

        probing = Probing(
            record=record, container=container, ip=self._parts.net.ip, run=run, changed=self._changed,
            unhealthy=lambda kind: self._unhealthy(record, kind),
            failed=lambda message: self._event("Warning", "Unhealthy", message),
        )  # fmt: skip
        self._probing[record.name] = probing
        probing.start()

    def _unhealthy(self, record: ContainerRecord, kind: str) -> None:
        if self._stopping:
            return
        own = self.specs[record.name][f"{kind}Probe"].get("terminationGracePeriodSeconds")
        grace_s = own or self._pod["spec"].get("terminationGracePeriodSeconds", 30)
        why = f"failed {kind} probe, will be restarted: container"
        self._background(self._stop(record, why, time.monotonic() + grace_s, grace_s, []))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(
        self,
        record: ContainerRecord,
        why: str,
        deadline_s: float,
        grace_s: float,
        before: Iterable[ContainerRecord],
    ) -> None:
        """preStop, wait for those that go before, SIGTERM, then SIGKILL when the time is up."""
        if record.state != "running":
            return
        key, ended = record.key, self._ends[record.name]
        self._event("Normal", "Killing", f"{why} {record.name}")
        if grace_s > 0:
            await _first(ended.wait(), self._pre_stop(record), deadline_s)
            await _first(ended.wait(), self._all_ended(before), deadline_s)
            if not ended.is_set():
                await self._node.runtime.signal(key, signal.SIGTERM)
            await _first(ended.wait(), None, max(deadline_s, time.monotonic() + MIN_GRACE_S))
        if not ended.is_set():
            await self._node.runtime.signal(key, signal.SIGKILL)
            await ended.wait()

    async def _all_ended(self, records: Iterable[ContainerRecord]) -> None:
        for record in records:
            if record.state == "running":
                await self._ends[record.name].wait()

    async def _pre_stop(self, record: ContainerRecord) -> None:
        container = self.specs[record.name]
        hook = (container.get("lifecycle") or {}).get("preStop") or {}
        try:
            if "sleep" in hook:
                await asyncio.sleep(hook["sleep"]["seconds"])
            elif "exec" in hook:
                code, output = await self.run(record.name, list(hook["exec"]["command"]), float("inf"))
                if code:
                    self._event("Warning", "FailedPreStopHook", f"exit code {code}: {output}")
            elif "httpGet" in hook:
                await http_get(hook["httpGet"], container, self._parts.net.ip)
        except (OSError, aiohttp.ClientError, RuntimeFailed, ValueError) as error:
            self._event("Warning", "FailedPreStopHook", str(error))

    def _cancel_probes(self, name: str, *, keep: str = "") -> None:
        if name in self._probing:
            self._probing[name].cancel(keep=keep)

    def _event(self, type_: EventType, reason: str, message: str) -> None:
        self._node.events.record(self._pod, type_, reason, message)


async def _first(one: Awaitable[Any], other: Coroutine[Any, Any, None] | None, deadline_s: float) -> None:
    """Until either is done or the time (of the monotonic clock) has come; the rest is cancelled."""
    tasks = {asyncio.ensure_future(work) for work in (one, other) if work is not None}
    left_s = max(0.0, deadline_s - time.monotonic())
    await asyncio.wait(tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
