"""The body of a watch: one JSON object per line, in whatever pieces the network brings them. No I/O of its own.

Source: Kubernetes API concepts, "Efficient detection of changes"; apimachinery `pkg/apis/meta/v1/watch.go`.
"""

from collections.abc import AsyncIterable, AsyncIterator

import orjson

from agentic_serving.cluster.answers import error_from
from agentic_serving.cluster.port import Kind, Seen
from agentic_serving.errors import Unavailable

__all__ = ["MAX_LINE_BYTES", "events"]

#: An object is at most 1.5 MiB in etcd (its request limit); JSON and managed fields make it larger on the way.
MAX_LINE_BYTES = 8 * 2**20
_HAPPENED = ("ADDED", "MODIFIED", "DELETED", "BOOKMARK")


async def events(kind: Kind, chunks: AsyncIterable[bytes], *, asked: str) -> AsyncIterator[Seen]:
    """Every event as soon as its line is complete.

    Raises:
        Expired: the server ended the watch as its version is too old.
        ClusterError: it ended it with another error.
        Unavailable: what came is not the body of a watch.
    """
    async for line in _lines(chunks, asked):
        try:
            event = orjson.loads(line)
            happened, obj = event["type"], event["object"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise Unavailable(f"{asked}: not an event of a watch; is a proxy in between?") from error
        if happened == "ERROR":
            raise error_from(int(obj.get("code") or 500), {}, orjson.dumps(obj), asked=asked)
        if happened in _HAPPENED:
            yield Seen(happened, {"apiVersion": kind.api_version, "kind": kind.kind, **obj})


async def _lines(chunks: AsyncIterable[bytes], asked: str) -> AsyncIterator[bytes]:
    """Whole lines; a last one that broke off is dropped, as the next watch brings its event again."""
    pending: list[
        bytes
    ] = []  # of one line: joined once, or a large object in small pieces would cost its square
    size = 0
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            line = b"".join([*pending, part])
            pending.clear()
            size = 0
            if line.strip():
                yield line
        if rest:
            pending.append(rest)
            size += len(rest)
        if size > MAX_LINE_BYTES:
            raise Unavailable(f"{asked}: an event of more than {MAX_LINE_BYTES} bytes")
