"""The agent's side of the runtime's socket."""

import asyncio
import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.localcluster.process import Workplace, wait_until

from .runtime import SOCKET
from .spec import ContainerSpec

__all__ = ["RuntimeClient", "RuntimeFailed", "start_runtime"]

_ROOT = Path(__file__).parents[3]
_LINE_BYTES = 4 * 1024 * 1024
_START_TIMEOUT_S = 20.0  # takes 0.1 s on an idle machine


class RuntimeFailed(RuntimeError):
    """The runtime could not do what it was asked; its message."""


def start_runtime(place: Workplace) -> None:
    """Start the runtime in namespaces of its own and wait for its socket.

    Raises:
        StartFailed: it did not come up, for instance without the right to make namespaces.
    """
    process = place.start(
        "runtime",
        ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child",
         sys.executable, "-S", "-m", "tests.e2e.processnode.runtime", str(place.folder), str(os.getpid())],
        env={"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    at = place.folder / SOCKET
    wait_until(at.exists, timeout_s=_START_TIMEOUT_S, what="the container runtime", watch=[process])


class RuntimeClient:
    """Asks, and hears of ends. To be used in one event loop."""

    def __init__(self, exited: Callable[[str, int], None]) -> None:
        """Args: exited: called with a run's key and its exit status."""
        self._exited = exited
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None

    async def connect(self, folder: Path) -> None:
        while True:  # the socket is there a moment before it listens
            try:
                reader, self._writer = await asyncio.open_unix_connection(folder / SOCKET, limit=_LINE_BYTES)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
        self._listening = asyncio.create_task(self._listen(reader))

    async def close(self) -> None:
        """Hang up: the runtime ends, and everything that it started."""
        if self._listening is not None:
            self._listening.cancel()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def sandbox(self, uid: str, *, netns: str, hostname: str, shm: str) -> None:
        await self._ask("sandbox", uid=uid, netns=netns, hostname=hostname, shm=shm)

    async def remove(self, uid: str, mounts: list[str]) -> None:
        await self._ask("remove", uid=uid, mounts=mounts)

    async def tmpfs(self, path: str, size_bytes: int | None, group: int | None) -> None:
        await self._ask("tmpfs", path=path, size_bytes=size_bytes)
        if group is not None:
            await self._ask("chown", path=path, gid=group)

    async def start(self, spec: ContainerSpec) -> None:
        """Raises RuntimeFailed: the program was not started; the message is the step that failed."""
        await self._ask("start", spec=spec.to_json())

    async def exec(self, container: str, spec: ContainerSpec) -> None:
        await self._ask("exec", container=container, spec=spec.to_json())

    async def signal(self, key: str, number: int) -> None:
        await self._ask("signal", key=key, number=number)

    async def signal_all(self, key: str, number: int) -> None:
        await self._ask("signal_all", key=key, number=number)

    async def _ask(self, op: str, **arguments: Any) -> object:
        if self._writer is None:
            raise RuntimeFailed("not connected")
        number = next(self._ids)
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._writer.write(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
        return await answer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            message = json.loads(line)
            if "exited" in message:
                self._exited(message["exited"], message["status"])
                continue
            answer = self._waiting.pop(message["id"])
            if answer.done():
                continue  # whoever asked was cancelled
            if "error" in message:
                answer.set_exception(RuntimeFailed(message["error"]))
            else:
                answer.set_result(message["result"])
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(RuntimeFailed("the container runtime has ended"))
