"""Pictures of a grid and of a plan. They need matplotlib, which `plots.available` asks for before anything is simulated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.report import LoadPoint, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SUFFIXES", "available", "plot_attainment", "plot_grid"]

#: Both are written: one to look at, one to print.
SUFFIXES = (".png", ".svg")

_PANELS: Mapping[str, tuple[str, float]] = {
    "Task completion, mean, s": ("task_s.mean", 1),
    "Task completion, p50, s": ("task_s.p50", 1),
    "Recomputed prompt tokens, %": ("recompute_share", 100),
    "Task completion, p95, s": ("task_s.p95", 1),
    "Task completion, p99, s": ("task_s.p99", 1),
    "Longest hold, s": ("held_s", 1),
}
_AXES = {
    "demand": "live programs' KV demand, times all caches",
    "rate": "programs per second",
    "recorded": "speed of recorded arrivals",
}


def available() -> None:
    """Raises: InvalidInput: matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401 - only whether it is there
    except ImportError:
        raise InvalidInput("plots", "need matplotlib: pip install 'agentic-serving[simulate]'") from None


def plot_grid(report: Report, folder: Path) -> tuple[Path, ...]:
    """A picture for each kind of load, by policy over load: six panels from zero; the files that were written.

    Raises:
        InvalidInput: a file cannot be written.
    """
    written: list[Path] = []
    for kind in dict.fromkeys(load.kind for load in report.loads):
        loads = sorted((load for load in report.loads if load.kind == kind), key=lambda load: load.value)
        figure = _figure(13, 7)
        axes = figure.subplots(2, 3)
        for axis, (title, (metric, times)) in zip(axes.flat, _PANELS.items(), strict=True):
            _panel(axis, report, loads, metric, times)
            axis.set(title=title, xlabel=_AXES[kind], ylim=(0, None))
        figure.legend(
            *axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8
        )
        written += _save(figure, folder / kind)
    return tuple(written)


def plot_attainment(
    curves: Mapping[str, Sequence[tuple[int, float]]], *, wanted: float | None, title: str, path: Path
) -> tuple[Path, ...]:
    """Shares within the limit (0 to 1) over replicas, a curve each; `path` without a suffix.

    Args:
        wanted: the share that the objective asks for; None: it asks for a mean.

    Raises:
        InvalidInput: a file cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6.5, 4)
    axis = figure.subplots()
    for label, points in curves.items():
        ordered = sorted(points)
        axis.plot([n for n, _ in ordered], [100 * share for _, share in ordered], marker="o", label=label)
    if wanted is not None:
        axis.axhline(100 * wanted, linestyle="--", color="grey", label="objective")
    axis.set(title=title, xlabel="replicas", ylabel="within the limit, %", ylim=(0, 102))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    return tuple(_save(figure, path))


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panel(axis: "Axes", report: Report, loads: Sequence[LoadPoint], metric: str, times: float) -> None:
    get = report.most if metric == "held_s" else report.mean
    for number, policy in enumerate(report.policies):
        there = [load for load in loads if report.n_seeds(policy, load)]
        axis.plot(
            [load.value for load in there],
            [times * get(metric, policy, load) for load in there],
            marker="osv^Dx*"[number % 7],  # ten colours repeat with more policies than that
            markersize=4,
            label=policy,
        )


def _save(figure: "Figure", path: Path) -> list[Path]:
    written = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    for file in written:
        try:
            figure.savefig(file)
        except OSError as error:
            raise InvalidInput(str(file), error.strerror or str(error)) from None
    return written
