"""Subscriptions to engines' KV events. The only module that knows ZMQ.

Between two looks messages wait in ZMQ's own thread: a flood costs what is read of it per look, and what does not fit is
dropped by the engine, which the numbers of the messages show.
"""

import asyncio
import contextlib
from collections.abc import Iterable

import zmq

from agentic_serving.program.events import CacheNews
from agentic_serving.router.kvwatch import Source
from agentic_serving.router.kvwire import Reader

__all__ = ["Sockets"]

#: Messages that wait for us, per engine and look: an engine's step writes one, and takes 5 ms or more.
_WAITING = 1000
#: ZMQ has 1,023 for a process unless told otherwise.
_MOST_SOCKETS = 1000
#: Read in one go: about 1 ms in which no call is answered. A step of 8,192 tokens that evicts as many takes 0.3 ms to read in
#: blocks of 16 tokens, 0.13 ms in blocks of 64; a step that only decodes 3 us (1,000 events: 0.6 to 1.0 ms; one run).
_AT_ONCE = 4
#: A step of 32,768 tokens writes 0.5 MB; no engine's steps are much larger.
_MAX_BYTES = 16 * 2**20
#: Between tries to reach an engine; it doubles.
_RETRY_MS, _MOST_RETRY_MS = 250, 5000
#: A host that is gone without a word is noticed after about as long as a Lease of the scheduler takes.
_HEARTBEAT_MS, _SILENCE_MS = 5000, 15_000


class Sockets:
    """One subscription and one reader for each source."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.read = 0  # messages so far
        self.unreadable = 0  # of them
        self._context = zmq.Context()
        self._open: dict[Source, tuple[zmq.Socket[bytes], Reader]] = {}

    def follow(self, sources: Iterable[Source]) -> None:
        """These, and no others."""
        wanted = set(sources)
        for source in self._open.keys() - wanted:
            self._open.pop(source)[0].close(linger=0)
        for source in sorted(wanted - self._open.keys())[: _MOST_SOCKETS - len(self._open)]:
            socket = self._socket()
            self._open[source] = socket, Reader()
            with contextlib.suppress(zmq.ZMQError):  # what is no address says nothing
                socket.connect(source.address)

    async def news(self, *, loads: bool) -> list[CacheNews]:
        """What came since the last time, one for each source that said something. Others get their turn in between."""
        for socket, reader in list(self._open.values()):
            before = reader.unreadable
            await self._drain(socket, reader)
            self.unreadable += reader.unreadable - before
        taken = (reader.take(source.replica, loads=loads) for source, (_, reader) in self._open.items())
        return [one for one in taken if one is not None]

    def close(self) -> None:
        self.follow(())
        self._context.term()

    async def _drain(self, socket: "zmq.Socket[bytes]", reader: Reader) -> None:
        """Read what waits, but no more than can wait: what comes meanwhile is for the next look."""
        for number in range(1, _WAITING + 1):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.ZMQError:  # nothing more, or nothing ever
                return
            self.read += 1
            reader.read(frames)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _socket(self) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        options = {
            zmq.IPV6: 1,
            zmq.RCVHWM: _WAITING,
            zmq.MAXMSGSIZE: _MAX_BYTES,
            zmq.RECONNECT_IVL: _RETRY_MS,
            zmq.RECONNECT_IVL_MAX: _MOST_RETRY_MS,
            zmq.HEARTBEAT_IVL: _HEARTBEAT_MS,
            zmq.HEARTBEAT_TIMEOUT: _SILENCE_MS,
            zmq.LINGER: 0,
        }
        for option, value in options.items():
            socket.setsockopt(option, value)
        socket.subscribe(self.topic.encode())
        return socket
