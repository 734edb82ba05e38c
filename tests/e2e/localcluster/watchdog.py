"""Cleans up after a test process that died without doing so (SIGKILL, a crashed interpreter).

Runs as a process of its own and reads lines from a pipe whose other end only the test process holds:
`+PID` a process group to watch, `-PID` it is gone, `dir PATH` a folder to remove, `netns+NAME` a network namespace,
`netns-NAME` it is gone. End of file means that the writer has died or closed the pipe: then every group still
listed is killed, every namespace emptied of processes and removed, and every folder removed.
Only the standard library, so that it starts in 20 ms.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from typing import TextIO

__all__ = ["remove_namespace", "watch"]


def watch(lines: TextIO) -> None:
    """Follow the pipe to its end, then clean up."""
    groups: set[int] = set()
    folders: list[str] = []
    namespaces: dict[str, None] = {}  # as a set, but in order
    for line in lines:
        word = line.rstrip("\n")
        if word.startswith("+"):
            groups.add(int(word[1:]))
        elif word.startswith("-"):
            groups.discard(int(word[1:]))
        elif word.startswith("dir "):
            folders.append(word[4:])
        elif word.startswith("netns+"):
            namespaces[word[6:]] = None
        elif word.startswith("netns-"):
            namespaces.pop(word[6:], None)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    for name in namespaces:
        remove_namespace(name)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def remove_namespace(name: str) -> None:
    """Kill every process in a named network namespace, whatever group it is in, and remove its name.

    The kernel removes the namespace, and the devices that lead to it, once no process is left.
    """
    listed = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True)
    for pid in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


if __name__ == "__main__":
    watch(sys.stdin)
