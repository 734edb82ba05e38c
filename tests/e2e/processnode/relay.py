"""Carries connections from the pod network to the API server, which listens on the host's loopback only.

    python -m tests.e2e.processnode.relay NAMESPACE-FILE ADDRESS PORT TARGET-PORT

It listens on ADDRESS:PORT inside the namespace, connects to 127.0.0.1:TARGET-PORT outside, and reads nothing of what
passes: TLS is between the pod and the API server. While that is down, connections end at once.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from functools import partial

from .syscalls import CLONE_NEWNET, setns

__all__ = ["main"]

_CHUNK_BYTES = 64 * 1024


def main(argv: Sequence[str]) -> None:
    """Listen until killed."""
    namespace, address, port, target_port = argv
    listening = _listen_inside(namespace, address, int(port))
    print(f"listening on {address}:{port}", flush=True)
    asyncio.run(_serve(listening, int(target_port)))


def _listen_inside(namespace: str, address: str, port: int) -> socket.socket:
    """A socket stays in the namespace it was made in, wherever its process goes."""
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    inside = os.open(namespace, os.O_RDONLY)
    try:
        setns(inside, CLONE_NEWNET)
        try:
            return socket.create_server((address, port), backlog=128)
        finally:
            setns(outside, CLONE_NEWNET)
    finally:
        os.close(inside)
        os.close(outside)


async def _serve(listening: socket.socket, target_port: int) -> None:
    server = await asyncio.start_server(partial(_carry, target_port), sock=listening)
    await server.serve_forever()


async def _carry(target_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there, back = await asyncio.open_connection("127.0.0.1", target_port)
    except OSError:
        writer.transport.abort()
        return
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, back))
            both.create_task(_copy(there, writer))
    except* OSError:
        pass  # either side broke off: `finally` lets the other know
    finally:
        writer.transport.abort()
        back.transport.abort()


async def _copy(source: asyncio.StreamReader, goal: asyncio.StreamWriter) -> None:
    while data := await source.read(_CHUNK_BYTES):
        goal.write(data)
        await goal.drain()
    if goal.can_write_eof():
        goal.write_eof()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
