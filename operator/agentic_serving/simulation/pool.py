"""Simulations in several processes: one piece of work, many places to do it at.

Results come as they are done, so that progress is seen and an interrupted grid keeps what it has. Workers are started
afresh (not forked), for a fork of a process with threads may inherit a held lock; each gets the work once, not with
every place: a workload has megabytes.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from types import TracebackType
from typing import Any, Generic, TypeVar

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.grid import Cell, Each, Place

__all__ = ["Workers", "each", "usable_cores"]

P = TypeVar("P")
R = TypeVar("R")


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(jobs: int) -> Each:
    """For `run_grid`: cells in so many processes, in the order in which they get done."""

    def run(work: Callable[[Place], Cell], places: Iterable[Place]) -> Iterator[Cell]:
        items = list(places)
        with Workers(work, min(jobs, len(items))) as workers:
            yield from workers.run(items)

    return run


class Workers(Generic[P, R]):
    """Processes that do `work`, a picklable callable; with one job this process does it itself.

    Raises:
        InvalidInput: fewer than one job.
    """

    def __init__(self, work: Callable[[P], R], jobs: int) -> None:
        if jobs < 1:
            raise InvalidInput("jobs", "must be at least 1")
        self._work = work
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        self._others = set(active_children())

    def __enter__(self) -> "Workers[P, R]":
        if self._jobs > 1:
            self._pool = ProcessPoolExecutor(
                self._jobs, mp_context=get_context("spawn"), initializer=_begin, initargs=(self._work,)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Without an error all is done. With one, what still runs is of no use: it ends at once."""
        if self._pool is None:
            return
        if kind is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for child in set(active_children()) - self._others:
                child.terminate()
        self._pool.shutdown()

    def run(self, places: Iterable[P]) -> Iterator[R]:
        """What the work gives at each place, in the order in which it is done.

        Raises:
            InvalidInput: a worker was killed, as by the system when memory runs out.
        """
        if self._pool is None:
            yield from map(self._work, places)
            return
        waiting: list[Future[Any]] = [self._pool.submit(_do, place) for place in places]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool:
            raise InvalidInput(
                "jobs", "a worker process was killed, perhaps for memory; use fewer jobs"
            ) from None


#: A worker's piece of work.
_work: Callable[[Any], Any] | None = None


def _begin(work: Callable[[Any], Any]) -> None:
    """In a new worker. Ctrl-C goes to the whole group of processes: only the first is to act on it."""
    global _work  # the one way from an initializer to the tasks of its process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work = work


def _do(place: Any) -> Any:  # noqa: ANN401 - whatever the work takes and gives
    assert _work is not None  # noqa: S101 - set by the initializer
    return _work(place)
