"""KV events over ZMQ, as vLLM publishes them.

Frames are topic, sequence number (8 bytes, big endian) and a msgpack batch `[timestamp, events, data-parallel rank]`;
each event is a map with its type. A replay socket sends again what is still buffered, from a number on.
Source: vLLM 0.33.0, vllm/distributed/kv_events.py.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from agentic_serving.capacity.runs import Interner, ids
from agentic_serving.enginesim.engine import Job, Observer
from agentic_serving.enginesim.hashing import public_hash
from agentic_serving.fleet.types import BlocksCleared, BlocksRemoved, BlocksStored, CacheEvent, Outcome, Step

__all__ = ["BlockTokens", "EventPublisher", "batch_events"]

#: Steps that can be replayed: `buffer_steps`.
_BUFFER_STEPS = 10_000
#: Blocks whose tokens are remembered for events; a block is stored soon after its request was submitted.
_REMEMBERED_BLOCKS = 1_000_000
_END = (-1).to_bytes(8, "big", signed=True)


class BlockTokens(Observer):
    """Tokens of blocks by hash, for as long as their stored event may come."""

    def __init__(self, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._tokens: OrderedDict[bytes, tuple[int, ...]] = OrderedDict()
        self._salts: dict[bytes, str] = {}  # of first blocks

    def remember(self, hashes: Sequence[bytes], tokens: Sequence[int], salt: str = "") -> None:
        width = self.block_tokens
        if salt and hashes:
            self._salts[hashes[0]] = salt
        for position, name in enumerate(hashes):
            if name not in self._tokens:
                self._tokens[name] = tuple(tokens[position * width : (position + 1) * width])
        while len(self._tokens) > _REMEMBERED_BLOCKS:
            self._salts.pop(self._tokens.popitem(last=False)[0], None)

    def salt(self, name: bytes) -> tuple[str] | None:
        """What beside its tokens is in a block's hash."""
        found = self._salts.get(name)
        return None if found is None else (found,)

    def of(self, name: bytes) -> tuple[int, ...]:
        return self._tokens.get(name, ())


def batch_events(
    events: Iterable[CacheEvent], names: Interner, tokens: BlockTokens, *, as_int: bool
) -> list[dict[str, Any]]:
    """Events in vLLM's form."""
    found: list[dict[str, Any]] = []
    for event in events:
        if isinstance(event, BlocksCleared):
            found.append({"type": "AllBlocksCleared"})
        elif isinstance(event, BlocksStored):
            found.append(_stored(event, names, tokens, as_int=as_int))
        else:
            found.append(_removed(event, names, as_int=as_int))
    return found


def _stored(event: BlocksStored, names: Interner, tokens: BlockTokens, *, as_int: bool) -> dict[str, Any]:
    digests = [_digest(names, block) for block in ids(event.runs)]
    return {
        "type": "BlockStored",
        "block_hashes": [public_hash(digest, as_int=as_int) for digest in digests],
        "parent_block_hash": None
        if event.parent is None
        else public_hash(_digest(names, event.parent), as_int=as_int),
        "token_ids": [token for digest in digests for token in tokens.of(digest)],
        "block_size": tokens.block_tokens,
        "lora_id": None,
        "medium": event.medium,
        "lora_name": None,
        "extra_keys": [tokens.salt(digest) for digest in digests],
        "group_idx": 0,
        "kv_cache_spec_kind": "full_attention",
    }


def _removed(event: BlocksRemoved, names: Interner, *, as_int: bool) -> dict[str, Any]:
    order = [block for first, count in event.runs for block in reversed(range(first, first + count))]
    hashes = [public_hash(_digest(names, block), as_int=as_int) for block in order]
    return {"type": "BlockRemoved", "block_hashes": hashes, "medium": event.medium, "group_idx": 0}


def _digest(names: Interner, block: int) -> bytes:
    name = names.name(block)
    assert isinstance(name, bytes)  # noqa: S101 - only block hashes are interned
    return name


class EventPublisher(Observer):
    """The PUB socket of one engine, and its ROUTER socket for replays.

    Args:
        config: `--kv-events-config`.
    """

    def __init__(
        self, config: Mapping[str, Any], names: Interner, tokens: BlockTokens, *, as_int: bool = True
    ) -> None:
        self._names = names
        self._tokens = tokens
        self._as_int = as_int
        self._topic = str(config.get("topic", "")).encode()
        self._number = 0
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=int(config.get("buffer_steps", _BUFFER_STEPS)))
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.set_hwm(int(config.get("hwm", 100_000)))
        endpoint = str(config.get("endpoint", "tcp://*:5557"))
        if any(mark in endpoint for mark in ("*", "::", "ipc://", "inproc://")):
            self._socket.bind(endpoint)
        else:
            self._socket.connect(endpoint)
        self._replays: asyncio.Task[None] | None = None
        self._router: zmq.asyncio.Socket | None = None
        self.replay_address = ""
        if config.get("replay_endpoint"):
            self._router = zmq.asyncio.Context().socket(zmq.ROUTER)
            self._router.bind(str(config["replay_endpoint"]))
            self.replay_address = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
            self._replays = asyncio.get_running_loop().create_task(self._answer(self._router))

    @property
    def sent(self) -> int:
        """Batches so far."""
        return self._number

    def stepped(self, step: Step, outcome: Outcome) -> None:  # noqa: ARG002 - an observer's signature
        self.publish(outcome.events)

    def admitted(self, job: Job) -> None:
        self._tokens.remember(job.hashes, [*job.prompt, *job.output], job.salt)

    def publish(self, events: Iterable[CacheEvent]) -> None:
        """Send a batch, unless it is empty."""
        batch = batch_events(events, self._names, self._tokens, as_int=self._as_int)
        if not batch:
            return
        payload = msgspec.msgpack.encode([time.time(), batch, 0])
        self._buffer.append((self._number, payload))
        frames = [self._topic, self._number.to_bytes(8, "big"), payload]
        self._number += 1
        with contextlib.suppress(zmq.Again):
            self._socket.send_multipart(frames, flags=zmq.NOBLOCK)

    async def close(self) -> None:
        if self._replays is not None:
            self._replays.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._replays
        for socket in (self._socket, self._router):
            if socket is not None:
                socket.close(linger=0)
                socket.context.term()

    async def _answer(self, router: zmq.asyncio.Socket) -> None:
        while True:
            client, _, start = await router.recv_multipart()
            first = int.from_bytes(start, "big")
            for number, payload in [entry for entry in self._buffer if entry[0] >= first]:
                await router.send_multipart([client, b"", self._topic, number.to_bytes(8, "big"), payload])
            await router.send_multipart([client, b"", b"", _END, b""])
