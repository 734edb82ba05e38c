"""Progress of simulations on stderr: how many are done, what the last one was, and how long the rest will take."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

__all__ = ["Bar"]


class Bar:
    """A bar; without a terminal it is printed once, at the end. Without a total there is no estimate."""

    def __init__(self, name: str, *, total: int | None) -> None:
        columns: list[ProgressColumn] = [TextColumn(name), BarColumn(20), MofNCompleteColumn()]
        columns += [TextColumn("{task.description}"), TimeElapsedColumn()]
        if total is not None:
            columns += [TextColumn("left"), TimeRemainingColumn()]
        # All simulations of a long grid count for the estimate, not only the last half minute's.
        self._progress = Progress(*columns, console=Console(stderr=True), speed_estimate_period=3600)
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, description: str) -> None:
        """One more is done."""
        self._progress.update(self._task, advance=1, description=description)

    def say(self, line: str) -> None:
        self._progress.console.print(line)
