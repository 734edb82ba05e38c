"""Writes a folder of files so that a reader sees all old ones or all new ones, as a kubelet does.

Source: pkg/volume/util/atomic_writer.go: `..data` is a link to the newest folder, and each file a link through it.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .files import File

__all__ = ["write"]

_DATA = "..data"


def write(folder: Path, files: Mapping[str, File], group: int | None) -> bool:
    """Make these the folder's files; whether something changed.

    Args:
        group: the pod's fsGroup, which may then read all of them.
    """
    if _current(folder) == {path: file.content for path, file in files.items()}:
        return False
    newest = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    newest.chmod(0o755)
    for path, file in files.items():
        at = newest / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(file.content)
        at.chmod(file.mode if group is None else file.mode | 0o440)
        if group is not None:
            os.chown(at, -1, group)
    _switch(folder, newest, {path.split("/")[0] for path in files})
    return True


def _current(folder: Path) -> dict[str, bytes] | None:
    data = folder / _DATA
    if not data.exists():
        return None
    found = (path for path in data.resolve().rglob("*") if path.is_file())
    return {str(path.relative_to(data.resolve())): path.read_bytes() for path in found}


def _switch(folder: Path, newest: Path, names: set[str]) -> None:
    data = folder / _DATA
    old = data.resolve() if data.exists() else None
    link = folder / "..data_tmp"
    link.symlink_to(newest.name)
    link.rename(data)
    for name in names:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{_DATA}/{name}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()
    if old is not None:
        shutil.rmtree(old)
