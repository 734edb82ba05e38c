"""Which chunks a server holds: its memory by least recent use, and a folder behind it where one is configured.

Source: lmcache 0.5.6, `lmcache server --help`: above `--eviction-trigger-watermark` of its memory it forgets
`--eviction-ratio` of what it holds. A chunk in the folder is a file that holds only its size: nothing real is stored.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ChunkStore", "Found"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a lookup found, in chunks."""

    memory: int
    folder: int

    @property
    def total(self) -> int:
        return self.memory + self.folder


class ChunkStore:
    """Chunks by key.

    Args:
        folder: of the file-system tier; None: there is none.
    """

    def __init__(
        self, capacity_bytes: int, *, watermark: float = 0.8, ratio: float = 0.2, folder: Path | None = None
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self.held_bytes = 0
        self.evicted = 0
        self._watermark = watermark
        self._ratio = ratio
        self._folder = folder
        self._sizes: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sizes)

    def lookup(self, keys: Sequence[str]) -> Found:
        """How many keys from the first on are there, without a gap; those in the folder come to memory."""
        memory = folder = 0
        for key in keys:
            if key in self._sizes:
                self._sizes.move_to_end(key)
                memory += 1
                continue
            size = self._read(key)
            if size is None:
                break
            folder += 1
            self._hold(key, size)
        return Found(memory=memory, folder=folder)

    def store(self, keys: Iterable[str], chunk_bytes: int) -> int:
        """Keep chunks; how many were new."""
        new = 0
        for key in keys:
            if key in self._sizes:
                self._sizes.move_to_end(key)
                continue
            new += 1
            self._hold(key, chunk_bytes)
            self._write(key, chunk_bytes)
        return new

    def clear(self) -> None:
        """Forget what is in memory."""
        self._sizes.clear()
        self.held_bytes = 0

    def _hold(self, key: str, size: int) -> None:
        self._sizes[key] = size
        self.held_bytes += size
        if self.held_bytes <= self._watermark * self.capacity_bytes:
            return
        target = (1 - self._ratio) * self.held_bytes
        while self._sizes and self.held_bytes > target:
            self.held_bytes -= self._sizes.popitem(last=False)[1]
            self.evicted += 1

    def _path(self, key: str) -> Path | None:
        return None if self._folder is None else self._folder / key[:2] / f"{key}.chunk"

    def _read(self, key: str) -> int | None:
        path = self._path(key)
        try:
            return None if path is None else int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def _write(self, key: str, size: int) -> None:
        path = self._path(key)
        if path is None or path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(str(size), encoding="ascii")
        partial.replace(path)
