"""Folders in the cache: made once, by one process at a time, whole or not at all."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["engines_dir", "locked", "say"]


def engines_dir() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/agentic-serving/engines`."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "agentic-serving" / "engines"


@contextmanager
def locked(goal: Path) -> Iterator[None]:
    """Only one process makes `goal`; the others wait until it is there."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    with goal.with_name(f"{goal.name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is making {goal.name}; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield  # closing the file releases the lock, also when this process dies


def say(text: str) -> None:
    """A line of progress."""
    print(f"realengines: {text}", file=sys.stderr, flush=True)
