"""Ports that are free when they are chosen may be taken before they are used: then others are tried."""

from collections.abc import Callable
from typing import TypeVar

from tests.e2e.localcluster.process import StartFailed, free_ports

__all__ = ["on_free_ports"]

Started = TypeVar("Started")
_ATTEMPTS = 4


def on_free_ports(count: int, start: Callable[[list[int]], Started]) -> Started:
    """What `start` makes on that many free ports.

    Raises:
        StartFailed: it did not start, for another reason or again and again for this one.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return start(free_ports(count))
        except StartFailed as error:
            if "ddress already in use" not in str(error):
                raise
    return start(free_ports(count))
