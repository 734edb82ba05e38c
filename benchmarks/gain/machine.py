"""What else the machine did meanwhile: figures of a shared machine are worth as much as that is known."""

import os
import time
from dataclasses import dataclass

import psutil

__all__ = ["Machine", "Meter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Cores busy in the mean: with this benchmark's processes, and with others'."""

    ours: float
    others: float


class Meter:
    """From its making to `read`."""

    def __init__(self) -> None:
        self._at_s, self._busy_s, self._ours_s = time.monotonic(), _busy_s(), _ours_s()

    def read(self) -> Machine:
        took_s = max(time.monotonic() - self._at_s, 1e-9)
        ours = max(0.0, _ours_s() - self._ours_s) / took_s
        busy = (_busy_s() - self._busy_s) / took_s
        return Machine(ours=round(ours, 2), others=round(max(0.0, busy - ours), 2))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice)


def _ours_s() -> float:
    """Of this process and everything it started that still runs."""
    found = 0.0
    for process in [psutil.Process(os.getpid()), *psutil.Process(os.getpid()).children(recursive=True)]:
        try:
            times = process.cpu_times()
            found += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return found
