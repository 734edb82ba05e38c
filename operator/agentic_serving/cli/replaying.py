"""What `replay` does once its options are read: apart, because it needs the `replay` extra's packages."""

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agentic_serving.errors import InvalidInput
from agentic_serving.replay.driver import replay, select
from agentic_serving.replay.options import Options
from agentic_serving.replay.plot import SUFFIXES, plot
from agentic_serving.replay.records import Event, ProgramEnded, ProgramStarted, TurnEnded
from agentic_serving.replay.report import Report, from_data
from agentic_serving.replay.table import text
from agentic_serving.workload import Program, read

__all__ = ["plot", "run", "text"]


async def run(traces: tuple[Path, ...], given: Mapping[str, Any]) -> Report:
    """Read everything, check everything, replay.

    Raises:
        InvalidInput: an option, a trace, the baseline or the endpoint is no good.
    """
    options = _options(given)
    _check_plot(given["plot_path"])
    baseline = _baseline(given["baseline"])
    programs = select(tuple(program for path in traces for program in read(path)), options)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, _interrupted, stop)
    with _Bar(programs, options) as bar:
        return await replay(programs, options, on_event=bar.see, baseline=baseline, stop=stop)


def _check_plot(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix not in SUFFIXES:
        raise InvalidInput("--plot", f"{path}: expected a name that ends with {' or '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise InvalidInput("--plot", f"{path}: the folder {path.parent} does not exist")


def _interrupted(stop: asyncio.Event) -> None:
    """Ctrl-C ends the replay between turns, and the report still comes; a second one ends it at once."""
    stop.set()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def _options(given: Mapping[str, Any]) -> Options:
    same = [
        "endpoint",
        "model",
        "api_key",
        "client",
        "api",
        "token_scale",
        "max_output_tokens",
        "gap_scale",
        "time_scale",
        "sessions",
        "concurrency",
        "seed",
        "retries",
        "tool_choice",
        "ignore_eos",
        "tokens_per_word",
        "headers",
    ]
    return Options(
        **{name: given[name] for name in same},
        max_gap_s=given["max_gap"],
        duration_s=given["duration"],
        timeout_s=given["timeout"],
    )


def _baseline(path: Path | None) -> Report | None:
    if path is None:
        return None
    try:
        return from_data(json.loads(path.read_text()), name=str(path))
    except OSError as error:
        raise InvalidInput("--baseline", f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InvalidInput("--baseline", f"{path}: is not JSON: {error}") from None


class _Bar:
    """Progress on stderr: turns done (or time passed), programs running, cached share, errors."""

    def __init__(self, programs: tuple[Program, ...], options: Options) -> None:
        self._n_turns = sum(len(s.turns) for p in programs for s in p.sessions)
        self._options = options
        self._done = self._failed = self._running = self._prompt = self._cached = 0
        columns = (
            TextColumn("replay"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True))

    def __enter__(self) -> "_Bar":
        endless = self._options.duration_s is not None
        self._task = self._progress.add_task("calibrating", total=None if endless else self._n_turns)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def see(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, ProgramStarted):
            self._running += 1
        elif isinstance(event, ProgramEnded):
            self._running -= 1
        elif isinstance(event, TurnEnded):
            self._turn(event)
        share = f"{100 * self._cached / self._prompt:.0f} % cached, " if self._prompt else ""
        state = f"turns, {self._running} programs running, {share}{self._failed} failed"
        self._progress.update(self._task, completed=self._done, description=state)

    def _turn(self, event: TurnEnded) -> None:
        usage = event.record.usage
        self._done += event.record.kind == "turn"
        self._failed += bool(event.record.error)
        if usage is not None and usage.cached is not None:
            self._prompt += usage.prompt
            self._cached += usage.cached
