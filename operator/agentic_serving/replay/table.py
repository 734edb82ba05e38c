"""A report as text: what a person reads first."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentic_serving.replay.report import Report

__all__ = ["text"]

_COLUMNS = ("count", "mean", "p50", "p95", "p99")


def text(report: Report) -> str:
    """The table, then tokens, errors and how it was made."""
    s = report.summary
    rows = [
        _row("turn completion, s", s["turns"]["completionSeconds"]),
        _row("first token, s", s["turns"]["firstTokenSeconds"]),
        _row("first token after a tool, s", s["turns"]["firstTokenAfterToolSeconds"]),
        _row("task completion, s", s["tasks"]["completionSeconds"]),
        _row("session, s", s["sessions"]["completionSeconds"]),
    ]
    for name in ("turns", "tasks", "sessions"):
        if "slowdown" in s[name]:
            rows.append(_row(f"slowdown of {name}", s[name]["slowdown"]))
    return "\n".join([*_aligned([["", *_COLUMNS], *rows]), "", *_notes(s)])


def _row(name: str, spread: Mapping[str, float] | None) -> list[str]:
    if spread is None:
        return [name, "0", "-", "-", "-", "-"]
    return [name, f"{spread['count']:.0f}", *(f"{spread[c]:.2f}" for c in _COLUMNS[1:])]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "   ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _notes(s: Mapping[str, Any]) -> list[str]:
    run, tokens, options = s["run"], s["tokens"], s["options"]
    cached = tokens["cachedSharePercent"]
    lines = [
        f"prompt tokens    {tokens['prompt']:,} ({_signed(tokens['promptErrorPercent'])} against the trace at this scale), "
        + ("cached share not reported" if cached is None else f"{cached:.1f} % cached"),
        f"output tokens    {tokens['output']:,}",
        f"turns            {s['turns']['count']} in {run['wallSeconds']:.0f} s, {s['turns']['failed']} failed"
        + (f", {s['sideRequests']} side requests" if s["sideRequests"] else ""),
        f"tasks            {s['tasks']['count']}, {s['tasks']['failed']} failed, {s['tasks']['unfinished']} unfinished",
        f"errors           {_counts(s['errors'])}",
        f"retries          {_counts(s['retries'])}",
        f"scales           tokens {options['tokenScale']:g}, gaps {options['gapScale']:g} up to {options['maxGapSeconds']:g} s, "
        f"arrivals {options['timeScale']:g}; {run['tokensPerWord']:.3f} tokens per word",
    ]
    if run["turnsDropped"]:
        lines.append(
            f"dropped          {run['turnsDropped']} turns still running when the replay was stopped"
        )
    if tokens["withoutUsage"]:
        lines.append(f"without usage    {tokens['withoutUsage']} turns: not in the token figures")
    return [*lines, *(f"  {kind}: {detail}" for kind, detail in s["errorDetails"].items())]


def _signed(percent: float | None) -> str:
    return "unknown" if percent is None else f"{percent:+.1f} %"


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{n} x {kind}" for kind, n in found.items()) or "none"
