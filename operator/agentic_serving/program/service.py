"""Service that each run's task has attained, in uncached prompt tokens: what the order of waiting turns goes by.

Cached tokens are not charged: turns whose context is there cost nearly nothing and overtake, which keeps the cache useful. An
order by all tokens is one by context length (docs/scheduling.md). A task begins with a person's words; what sub-agents
are served is charged to the task that started them.
"""

from collections import OrderedDict

__all__ = ["Service"]


class Service:
    """By run, the ones used last are kept. Stacks of one pipeline may share one object, or a store with these methods."""

    def __init__(self, *, max_runs: int = 100_000) -> None:
        self._max_runs = max_runs
        self._attained: OrderedDict[str, int] = OrderedDict()

    def begin_task(self, run: str) -> None:
        self._put(run, 0)

    def charge(self, run: str, uncached_tokens: int) -> None:
        self._put(run, self._attained.get(run, 0) + uncached_tokens)

    def attained(self, run: str) -> int:
        return self._attained.get(run, 0)

    def end(self, run: str) -> None:
        self._attained.pop(run, None)

    def _put(self, run: str, tokens: int) -> None:
        self._attained[run] = tokens
        self._attained.move_to_end(run)
        if len(self._attained) > self._max_runs:
            self._attained.popitem(last=False)
