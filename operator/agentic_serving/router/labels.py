"""Label values with a bound: what is not in a fixed set, or past a cap, is `other`."""

from collections.abc import Iterable
from typing import get_args

from agentic_serving.program.events import Reason
from agentic_serving.program.identity import TurnKind
from agentic_serving.program.request import Api, ClientKind
from agentic_serving.router.words import Cause

__all__ = ["APIS", "CAUSES", "CLIENTS", "KINDS", "OTHER", "PARTS", "REASONS", "Capped", "known"]

OTHER = "other"

APIS = frozenset(get_args(Api))
CLIENTS = frozenset(get_args(ClientKind))
KINDS = frozenset(get_args(TurnKind))
CAUSES = frozenset(get_args(Cause))
#: The core's, and what the desk adds (`words.Decided`).
REASONS = frozenset({*map(str, Reason), "QueueFull", "ReplacedByRetry", "NotParsed", "Observing"})
PARTS = frozenset(
    {
        "access_log",
        "config",
        "desk",
        "hints",
        "kv_events",
        "lease",
        "listener",
        "pods",
        "processor",
        "scrape",
        "state",
        "web",
    }
)


def known(value: str, values: frozenset[str]) -> str:
    return value if value in values else OTHER


class Capped:
    """The first so many names are themselves, for good; any further one is `other`.

    A stack has at most some 140 programs (`docs/scheduling.md`); 64 of them with a histogram each are some 15,000 series.
    """

    def __init__(self, first: Iterable[str] = (), *, most: int = 64) -> None:
        self._most = most
        self._names: set[str] = set()
        for name in first:
            self(name)

    def __call__(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) >= self._most:
            return OTHER
        self._names.add(name)
        return name
