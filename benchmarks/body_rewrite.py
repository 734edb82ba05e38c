"""What an engine hint in a request's body would cost the scheduler: one field put into a body of the size that agents send.

    python -m benchmarks.body_rewrite

Against it: reading and writing the same body as JSON, which is what it takes without surgery. The transport's share, a body that goes back to
Envoy instead of nothing, is not in it.
"""

import time
from collections.abc import Callable

import orjson

from agentic_serving.router.rewrite import insert_int

__all__ = ["bodies", "cost_s"]

#: Claude Code's bodies: its first turn, and a long session's (docs/agents.md).
_SIZES = {"76 KB": 76_000, "400 KB": 400_000, "2 MB": 2_000_000}
_TURN_CHARS = 4_000
_LEAST_S = 0.5


def bodies() -> dict[str, bytes]:
    """Conversations of these sizes."""
    return {name: _body(size) for name, size in _SIZES.items()}


def _body(size: int) -> bytes:
    text = "some words of a file. " * (_TURN_CHARS // 22)
    messages = [
        {"role": ("user", "assistant")[i % 2], "content": text} for i in range(max(1, size // len(text)))
    ]
    return orjson.dumps({"model": "m", "stream": True, "messages": messages})


def cost_s(work: Callable[[], object]) -> float:
    """Seconds of one call: the best of five rounds."""
    rounds = []
    for _ in range(5):
        began_s, n = time.perf_counter(), 0
        while time.perf_counter() - began_s < _LEAST_S / 5:
            work()
            n += 1
        rounds.append((time.perf_counter() - began_s) / n)
    return min(rounds)


def main() -> None:
    print("| body | field put in | read and written |\n|---|---|---|")
    for name, body in bodies().items():
        put_s = cost_s(lambda b=body: insert_int(b, "priority", -2))  # type: ignore[misc]  # a default binds it
        whole_s = cost_s(lambda b=body: orjson.dumps({"priority": -2, **orjson.loads(b)}))  # type: ignore[misc]
        print(f"| {name} | {put_s * 1e6:.0f} us | {whole_s * 1e6:.0f} us |")


if __name__ == "__main__":
    main()
