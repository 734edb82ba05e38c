"""A grid as figures: JSON for programs, a table for people. Shares are percent, times seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isnan, nan
from statistics import fmean
from typing import Any, Literal

from agentic_serving.simulation.grid import Grid, Interval
from agentic_serving.simulation.metrics import METRICS

__all__ = ["GAINS", "LoadPoint", "Report", "finite", "markdown", "text"]

#: What policies are compared on.
GAINS = ("task_s.mean", "task_s.p50", "task_s.p95", "task_s.p99", "run_s.mean", "run_s.p95")

#: Metrics that are counts: summed over seeds, where others are averaged.
_COUNTS = ("unfinished_tasks", "unfinished_runs", "turns", "preemptions")


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """How hard the fleet is driven: live programs as a multiple of its caches, programs per second, or recorded speed."""

    kind: Literal["demand", "rate", "recorded"]
    value: float

    @property
    def name(self) -> str:
        return {"demand": "{:g}x", "rate": "{:g}/s", "recorded": "recorded x{:g}"}[self.kind].format(
            self.value
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was simulated, and what came of it.

    Attributes:
        about: how it was made, as plain values.
        n_planned: simulations of the whole grid; an interrupted one has fewer.
        against: the policy that the others are compared with; None: no comparison.
    """

    about: Mapping[str, Any]
    loads: tuple[LoadPoint, ...]
    policies: tuple[str, ...]
    grid: Grid
    n_planned: int
    against: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def complete(self) -> bool:
        return len(self.grid.cells) == self.n_planned

    def mean(self, metric: str, policy: str, load: LoadPoint) -> float:
        """Over the seeds that are there; NaN without any."""
        values = [value for value in self._values(metric, policy, load) if not isnan(value)]
        return fmean(values) if values else nan

    def total(self, metric: str, policy: str, load: LoadPoint) -> int:
        """Over the seeds that are there."""
        return int(sum(self._values(metric, policy, load)))

    def most(self, metric: str, policy: str, load: LoadPoint) -> float:
        """Of the seeds that are there."""
        return max(self._values(metric, policy, load), default=nan)

    def n_seeds(self, policy: str, load: LoadPoint) -> int:
        return len(self._values("turns", policy, load))

    def gain(self, metric: str, policy: str, load: LoadPoint) -> Interval:
        """How many times smaller than under the policy compared with, over the seeds that both have."""
        return self.grid.gain(metric, policy=policy, against=self.against or policy, load=load.name)

    def data(self) -> dict[str, Any]:
        """As JSON; what is not a number is null."""
        found = {
            **self.about,
            "complete": self.complete,
            "simulations": {"done": len(self.grid.cells), "planned": self.n_planned},
            "against": self.against,
            "notes": list(self.notes),
            "loads": [self._load(load) for load in self.loads],
            "cells": [asdict(cell) for cell in sorted(self.grid.cells, key=self._place)],
        }
        return {key: finite(value) for key, value in found.items()}

    def _values(self, metric: str, policy: str, load: LoadPoint) -> list[float]:
        return list(self.grid.values(metric, policy=policy, load=load.name).values())

    def _place(self, cell: Any) -> tuple[int, int, int]:  # noqa: ANN401 - a Cell; the order of the options
        names = [load.name for load in self.loads]
        return names.index(cell.load), self.policies.index(cell.policy), cell.seed

    def _load(self, load: LoadPoint) -> dict[str, Any]:
        policies = [self._policy(policy, load) for policy in self.policies if self.n_seeds(policy, load)]
        return {"name": load.name, load.kind: load.value, "policies": policies}

    def _policy(self, policy: str, load: LoadPoint) -> dict[str, Any]:
        found: dict[str, Any] = {
            "policy": policy,
            "seeds": self.n_seeds(policy, load),
            "means": {metric: self.mean(metric, policy, load) for metric in METRICS},
            "longestHoldSeconds": self.most("held_s", policy, load),
            "totals": {metric: self.total(metric, policy, load) for metric in _COUNTS},
        }
        if self.against is not None and policy != self.against:
            found["gains"] = {metric: asdict(self.gain(metric, policy, load)) for metric in GAINS}
        return found


def finite(value: Any) -> Any:  # noqa: ANN401 - any plain value
    """The same value with null where JSON has no number."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and (isnan(value) or value in (float("inf"), float("-inf"))):
        return None
    return value


_HEADER = (
    "policy", "mean", "p50", "p95", "p99", "slowdown", "first token p95", "recomputed", "longest hold", "unfinished",
)  # fmt: skip


def text(report: Report) -> str:
    """A table for each load, then how it was made."""
    parts = []
    for load in report.loads:
        rows = _rows(report, load)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ("   ".join(_pad(cell, i, widths[i]) for i, cell in enumerate(row)).rstrip() for row in rows)
        parts.append("\n".join((f"{_title(load)}: task completion, s", *lines)))
    return "\n\n".join((*parts, "\n".join(_notes(report))))


def markdown(report: Report) -> str:
    """The same as a document."""
    parts = ["# Simulation"]
    for load in report.loads:
        header, *rows = (f"| {' | '.join(row)} |" for row in _rows(report, load))
        rule = "|---|" + "---:|" * (header.count("|") - 2)
        parts.append("\n".join((f"## {_title(load)}: task completion, s", "", header, rule, *rows)))
    return "\n\n".join((*parts, "\n".join(f"- {note}" for note in _notes(report)))) + "\n"


def _title(load: LoadPoint) -> str:
    if load.kind == "demand":
        return f"Live programs want {load.value:g} times the caches"
    if load.kind == "rate":
        return f"{load.value:g} programs/s arrive"
    return f"Arrivals as recorded, {load.value:g} times as fast"


def _pad(cell: str, column: int, width: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)


def _rows(report: Report, load: LoadPoint) -> list[Sequence[str]]:
    compared = report.against is not None
    header = (*_HEADER, *(("gain, mean", "gain, p95") if compared else ()))
    return [header, *(_row(report, policy, load) for policy in report.policies)]


def _row(report: Report, policy: str, load: LoadPoint) -> Sequence[str]:
    gains = [
        "-" if policy == report.against else _interval(report.gain(metric, policy, load))
        for metric in (("task_s.mean", "task_s.p95") if report.against is not None else ())
    ]
    return (
        policy,
        *(_number(report.mean(f"task_s.{part}", policy, load)) for part in ("mean", "p50", "p95", "p99")),
        _number(report.mean("task_slowdown.mean", policy, load), digits=2),
        _number(report.mean("first_token_s.p95", policy, load), digits=2),
        _number(100 * report.mean("recompute_share", policy, load), unit=" %"),
        _number(report.most("held_s", policy, load), unit=" s"),
        str(report.total("unfinished_tasks", policy, load)),
        *gains,
    )


def _number(value: float, *, digits: int = 1, unit: str = "") -> str:
    return "-" if isnan(value) else f"{value:,.{digits}f}{unit}"


def _interval(found: Interval) -> str:
    if isnan(found.mean):
        return "-"
    return (
        f"{found.mean:.3f}" if isnan(found.low) else f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
    )


def _notes(report: Report) -> list[str]:
    done = len(report.grid.cells)
    seeds = max((report.n_seeds(p, load) for p in report.policies for load in report.loads), default=0)
    notes = [f"Means over {seeds} seed{'' if seeds == 1 else 's'}; the longest hold is that of all seeds."]
    if not report.complete:
        notes.insert(0, f"INTERRUPTED after {done} of {report.n_planned} simulations.")
    if report.against is not None:
        told = "the same seeds" if seeds > 1 else "one seed: no interval"
        notes.append(
            f"Gain: completion under {report.against} divided by the policy's, with its 95 % interval ({told})."
        )
    if any(report.total("unfinished_tasks", p, load) for p in report.policies for load in report.loads):
        notes.append("Unfinished tasks count with their age at the horizon.")
    return [*notes, *report.notes]
