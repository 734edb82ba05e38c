"""A report as a picture: completion over time, its distribution, and the cached share."""

from pathlib import Path

from agentic_serving.errors import InvalidInput
from agentic_serving.replay.report import Report

__all__ = ["SUFFIXES", "plot"]

SUFFIXES = (".png", ".svg")


def plot(report: Report, path: Path) -> None:
    """Write the picture; the suffix says which format.

    Raises:
        InvalidInput: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InvalidInput("--plot", "needs matplotlib: pip install 'agentic-serving[replay]'") from None
    turns = [r for r in report.records if r.kind == "turn" and not r.error]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    over_time, distribution, cached = figure.subplots(1, 3)
    for kind, colour in (("tool", "tab:blue"), ("human", "tab:orange")):
        of_kind = [r for r in turns if r.gap_kind == kind]
        over_time.scatter(
            [r.started_s for r in of_kind],
            [r.completion_s for r in of_kind],
            s=8,
            color=colour,
            label=f"after a {kind}",
        )
        times = sorted(r.first_token_s for r in of_kind if r.first_token_s is not None)
        distribution.step(
            times, [(i + 1) / len(times) for i in range(len(times))], where="post", color=colour
        )
    over_time.set(title="Turns", xlabel="started, s", ylabel="completion, s")
    if turns:
        over_time.legend()
    distribution.set(title="First token", xlabel="s", ylabel="share of turns", ylim=(0, 1))
    shares = [
        (r.started_s, 100 * r.usage.cached / r.usage.prompt)
        for r in turns
        if r.usage and r.usage.cached is not None and r.usage.prompt
    ]
    cached.scatter([x for x, _ in shares], [y for _, y in shares], s=8, color="tab:green")
    cached.set(title="Cached share of the prompt", xlabel="started, s", ylabel="%", ylim=(0, 100))
    options = report.summary["options"]
    figure.suptitle(
        f"{options['model']}, tokens x {options['tokenScale']:g}, gaps x {options['gapScale']:g}", fontsize=10
    )
    try:
        figure.savefig(path)
    except OSError as error:
        raise InvalidInput("--plot", f"{path}: {error.strerror or error}") from None
