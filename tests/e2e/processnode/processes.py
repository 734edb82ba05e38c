"""Forks of the runtime: a pod's sandbox, a container's first process, a command in a running container.

Only the standard library, and single-threaded: every function forks. The child's half never returns.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from . import rootfs, syscalls
from .spec import ContainerSpec, Identity

__all__ = ["Sandbox", "StartError", "run_in", "start_container", "start_sandbox"]

_POD_NAMESPACES = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
_ALL_NAMESPACES = _POD_NAMESPACES | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID
_NOT_STARTED = 255  # exit status of a child that never became the program; the pipe says why


class StartError(RuntimeError):
    """A process could not be started; the message says at which step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What the containers of a pod share, held by a process that does nothing."""

    pid: int
    shared_memory: str  # folder that is /dev/shm in each container


def start_sandbox(netns: str, hostname: str, shared_memory: str) -> Sandbox:
    """Hold a pod's network, IPC and host name namespaces.

    Args:
        netns: file of the network namespace.
    """

    def become() -> NoReturn:
        handle = os.open(netns, os.O_RDONLY)
        syscalls.setns(handle, syscalls.CLONE_NEWNET)
        syscalls.unshare(syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS)
        socket.sethostname(hostname)
        _tell_started()
        while True:
            signal.pause()

    return Sandbox(pid=_forked(become), shared_memory=shared_memory)


def start_container(spec: ContainerSpec, sandbox: Sandbox, *, own: Path, scratch: Path) -> int:
    """Start a container's program as process 1 of a PID namespace; the id of that process.

    Raises:
        StartError: it was not started.
    """

    def become() -> NoReturn:
        with _log(spec.log) as output:
            rootfs.enter(spec, own=own, scratch=scratch, shared_memory=sandbox.shared_memory)
            _become_program(spec, output)

    def between() -> int:
        syscalls.setns(os.pidfd_open(sandbox.pid), _POD_NAMESPACES)
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID)
        return _forked_here(become)

    return _forked_twice(between)


def run_in(pid: int, spec: ContainerSpec) -> int:
    """Start a command in the namespaces of the container whose process 1 is `pid`; its process id.

    Raises:
        StartError: it was not started.
    """

    def become() -> NoReturn:
        _become_program(spec, output)

    def between() -> int:
        syscalls.setns(os.pidfd_open(pid), _ALL_NAMESPACES)
        return _forked_here(become)

    with _log(spec.log) as output:
        return _forked_twice(between)


# The error pipe of the child that is being started: closed by exec, written to before.
_error_pipe = -1


def _forked(become: Callable[[], NoReturn]) -> int:
    global _error_pipe
    reading, _error_pipe = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _guarded(become)
    os.close(_error_pipe)
    _raise_error(reading)
    return pid


def _forked_here(become: Callable[[], NoReturn]) -> int:
    """Fork in the process between: what it enters with setns holds for its children only."""
    pid = os.fork()
    if pid == 0:
        _guarded(become)
    return pid


def _forked_twice(between: Callable[[], int]) -> int:
    """The id of the grandchild, which is this process's own once the one between has ended."""
    global _error_pipe
    answer, answering = os.pipe2(os.O_CLOEXEC)
    reading, _error_pipe = os.pipe2(os.O_CLOEXEC)
    middle = os.fork()
    if middle == 0:

        def report() -> NoReturn:
            os.write(answering, b"%d" % between())
            os._exit(0)

        _guarded(report)
    os.close(_error_pipe)
    os.close(answering)
    with os.fdopen(answer, "rb") as pipe:
        grandchild = pipe.read()
    os.waitpid(middle, 0)
    _raise_error(reading)
    return int(grandchild)


def _guarded(become: Callable[[], NoReturn]) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        become()
    except BaseException as error:  # noqa: BLE001 - nothing may escape from a forked child
        with contextlib.suppress(OSError):
            os.write(_error_pipe, (str(error) or type(error).__name__).encode())
    finally:
        os._exit(_NOT_STARTED)


def _tell_started() -> None:
    """A child that runs no program closes the pipe itself."""
    os.close(_error_pipe)


def _raise_error(reading: int) -> None:
    with os.fdopen(reading, "rb") as pipe:
        message = pipe.read().decode(errors="replace")
    if message:
        raise StartError(message)


def _log(path: str) -> "contextlib.closing[_Output]":
    return contextlib.closing(
        _Output(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
    )


@dataclass(frozen=True, slots=True)
class _Output:
    descriptor: int

    def close(self) -> None:
        os.close(self.descriptor)


def _become_program(spec: ContainerSpec, output: _Output) -> NoReturn:
    os.chdir(spec.cwd)
    os.umask(0o022)
    os.setsid()
    nothing = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((nothing, 0), (output.descriptor, 1), (output.descriptor, 2)):
        os.dup2(source, target)
    _assume(spec.identity)
    program = spec.argv[0]
    try:
        os.execvpe(program, list(spec.argv), spec.env)  # noqa: S606 - this is what a container is
    except FileNotFoundError:
        raise StartError(
            f'exec: "{program}": no such program in $PATH ({spec.env.get("PATH", "")})'
        ) from None


def _assume(identity: Identity) -> None:
    syscalls.keep_capabilities(frozenset(identity.capabilities))
    os.setgroups(list(identity.groups))
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if identity.no_new_privileges:
        syscalls.forbid_new_privileges()
