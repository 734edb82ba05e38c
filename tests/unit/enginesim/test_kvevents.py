"""enginesim's KV events, read from the socket as a picker reads them."""

import asyncio
from typing import Any

import msgspec
import zmq

from agentic_serving.enginesim.hashing import block_hashes, public_hash
from tests.unit.enginesim.sim import MODEL, running, words


class Subscriber:
    """A SUB socket that binds, so that the engine connects to a free port."""

    def __init__(self, topic: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVTIMEO, 20_000)
        self._socket.setsockopt_string(zmq.SUBSCRIBE, topic)
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")

    async def batch(self, *, until: int | None = None) -> tuple[str, int, list[Any]]:
        """Topic, sequence number and the decoded batch; with `until` the first that stores this block."""
        while True:
            topic, number, payload = await asyncio.to_thread(self._socket.recv_multipart)
            batch = msgspec.msgpack.decode(payload)
            stored = {name for event in batch[1] for name in event.get("block_hashes", ())}
            if until is None or until in stored:
                return topic.decode(), int.from_bytes(number, "big"), batch

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()


def _option(port: int, **more: Any) -> str:
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": f"tcp://127.0.0.1:{port}",
        **more,
    }
    return f"--kv-events-config={msgspec.json.encode(config).decode()}"


async def test_stored_removed_and_cleared_blocks() -> None:
    subscriber = Subscriber("kv@")
    try:
        async with running(_option(subscriber.port, topic="kv@1.2.3.4:8000@tiny")) as sim:
            await _connected(sim, subscriber)
            prompt = (await sim.ok("/tokenize", {"model": MODEL, "prompt": "other" + words(120)}))["tokens"]
            await sim.ok("/v1/completions", {"model": MODEL, "prompt": prompt, "max_tokens": 1})
            hashes = [public_hash(digest, as_int=True) for digest in block_hashes(prompt, 16)]
            topic, number, (_, events, rank) = await subscriber.batch(until=hashes[-1])
            async with sim.client.post("/reset_prefix_cache"):
                await sim.ok("/v1/completions", {"model": MODEL, "prompt": "x", "max_tokens": 1})
            _, next_number, (_, after, _) = await subscriber.batch()
    finally:
        subscriber.close()
    assert (topic, rank) == ("kv@1.2.3.4:8000@tiny", 0)
    assert next_number == number + 1
    stored = [event for event in events if event["type"] == "BlockStored"]
    assert [name for event in stored for name in event["block_hashes"]] == hashes
    assert stored[0]["parent_block_hash"] is None
    assert [token for event in stored for token in event["token_ids"]] == prompt[: len(hashes) * 16]
    assert {(event["block_size"], event["medium"]) for event in stored} == {(16, "GPU")}
    assert after[0] == {"type": "AllBlocksCleared"}


async def test_what_was_missed_is_replayed() -> None:
    subscriber = Subscriber("")
    context = zmq.Context()
    request = context.socket(zmq.DEALER)
    request.setsockopt(zmq.RCVTIMEO, 20_000)
    try:
        option = _option(subscriber.port, replay_endpoint="tcp://127.0.0.1:*")
        async with running(option) as sim:
            await _connected(sim, subscriber)
            assert sim.built.events is not None
            request.connect(sim.built.events.replay_address)
            request.send_multipart([b"", (0).to_bytes(8, "big")])
            frames = [await asyncio.to_thread(request.recv_multipart)]
            while frames[-1][2] != (-1).to_bytes(8, "big", signed=True):
                frames.append(await asyncio.to_thread(request.recv_multipart))
    finally:
        request.close(linger=0)
        context.term()
        subscriber.close()
    assert [int.from_bytes(frame[2], "big") for frame in frames[:-1]] == list(range(len(frames) - 1))
    assert len(frames) > 1


async def _connected(sim: Any, subscriber: Subscriber) -> None:  # noqa: ANN401 - a Sim
    """A PUB socket drops what it sends before the subscription has arrived: send until one comes through."""
    waiting = asyncio.ensure_future(subscriber.batch())
    number = 0
    while not waiting.done():
        await sim.ok("/v1/completions", {"model": MODEL, "prompt": f"{number} {words(60)}", "max_tokens": 1})
        number += 1
        await asyncio.wait([waiting], timeout=0.02)
    waiting.result()
