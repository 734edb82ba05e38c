"""`scheduler.json`, read again when it changes.

The kubelet brings a new ConfigMap by replacing the link `..data` beside the file, so the file that the path leads to is
another one then; an editor may write the same file anew.
"""

from dataclasses import replace
from pathlib import Path

from agentic_serving.errors import InvalidInput
from agentic_serving.router.config import Config

__all__ = ["ConfigFile"]


class ConfigFile:
    """One file. `time_scale`: of the policy's seconds."""

    def __init__(self, path: Path, *, time_scale: float = 1.0) -> None:
        self._path = path
        self._time_scale = time_scale
        self._seen: object = None
        self._text = b""

    def read(self) -> Config:
        """
        Raises:
            InvalidInput: it cannot be read, or is not a configuration.
        """
        try:
            self._seen = self._look()
            self._text = self._path.read_bytes()
        except OSError as error:
            raise InvalidInput(str(self._path), f"cannot be read: {error.strerror}") from error
        config = Config.from_json(self._text)
        return replace(config, policy=config.policy.scaled(self._time_scale))

    def changed(self) -> Config | None:
        """The configuration, if it is another one than was read last.

        Raises:
            InvalidInput: the file changed, and cannot be used; told once for each change.
        """
        try:
            if self._look() == self._seen:
                return None
        except OSError:
            return None  # between two links; it is looked for again
        before = self._text
        config = self.read()
        return None if self._text == before else config

    def _look(self) -> object:
        found = self._path.stat()  # follows links
        return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
