"""Service that each run's task has attained, in uncached prompt tokens: what the order of waiting turns goes by.

Where clients say how long a task will still take, and have been right, that is better than to guess it from the past: it
is brought to the same scale by how many tokens tasks attain in a second.

Cached tokens are not charged: turns whose context is there cost nearly nothing and overtake, which keeps the cache useful. An
order by all tokens is one by context length (docs/scheduling.md). A task begins with a person's words; what sub-agents
are served is charged to the task that started them.
"""

from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Service"]


#: About the last 100 tasks say how many tokens a task attains in a second.
_RATE_WEIGHT = 0.01


@dataclass(slots=True)
class _Task:
    since_s: float
    tokens: int = 0


class Service:
    """By run, the ones used last are kept. Stacks of one pipeline may share one object, or a store with these methods."""

    def __init__(self, *, max_runs: int = 100_000) -> None:
        self._max_runs = max_runs
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._per_s = 0.0  # tokens that a task attains in a second

    def __len__(self) -> int:
        return len(self._tasks)

    def begin_task(self, run: str, now_s: float) -> None:
        before = self._tasks.get(run)
        if before is not None and now_s > before.since_s:
            self._per_s += _RATE_WEIGHT * (before.tokens / (now_s - before.since_s) - self._per_s)
        self._put(run, _Task(now_s))

    def charge(self, run: str, uncached_tokens: int, now_s: float) -> None:
        task = self._tasks.get(run) or _Task(now_s)
        task.tokens += uncached_tokens
        self._put(run, task)

    def attained(self, run: str) -> int:
        """Since its task began."""
        task = self._tasks.get(run)
        return task.tokens if task else 0

    def task(self, run: str) -> tuple[float, int] | None:
        """When its task began and what that has attained: what `restore` takes."""
        task = self._tasks.get(run)
        return (task.since_s, task.tokens) if task else None

    def restore(self, run: str, since_s: float, tokens: int) -> None:
        """What another process knew of a run; what is known here already is newer."""
        if run not in self._tasks and len(self._tasks) < self._max_runs:
            self._tasks[run] = _Task(since_s, tokens)
            self._tasks.move_to_end(run, last=False)

    def restore_rate(self, tokens_per_s: float) -> None:
        """What another process had learned of how fast tasks attain service."""
        self._per_s = tokens_per_s

    def tokens_in(self, seconds: float) -> float:
        """What a task attains in so much time."""
        return seconds * self._per_s

    def end(self, run: str) -> None:
        self._tasks.pop(run, None)

    def _put(self, run: str, task: _Task) -> None:
        self._tasks[run] = task
        self._tasks.move_to_end(run)
        if len(self._tasks) > self._max_runs:
            self._tasks.popitem(last=False)
