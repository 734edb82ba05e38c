"""What `top` shows, as tables of rich: apart, because it needs that package."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["layout", "screen", "show"]

Json = dict[str, Any]

_STATE_STYLE = {"Held": "yellow", "Prefill": "cyan", "Decode": "green", "Away": "dim"}
#: Lines that titles, headers and blank lines take.
_FURNITURE = 18
_PIPE_COLUMNS = 160  # where stdout is no terminal, nothing is cut to 80


def show(page: Json) -> None:
    """Print once, whole."""
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)
    console.print(layout(page))


def screen() -> Live:
    """The whole terminal, until it is left."""
    return Live(console=Console(highlight=False), screen=True, auto_refresh=False, redirect_stderr=False)


def layout(page: Json, problem: str = "", height: int | None = None) -> RenderableType:
    """All tables; with `height` lines to share, holds and sessions are cut and say so."""
    programs, replicas = page.get("programs", []), page.get("replicas", [])
    totals = page.get("totals", {})
    room = None if height is None else max(4, height - _FURNITURE - len(programs) - len(replicas))
    holds, sessions = page.get("holds", []), page.get("sessions", [])
    held_rows = len(holds) if room is None else min(len(holds), room // 2)
    rest = len(sessions) if room is None else max(0, room - held_rows)
    parts: list[RenderableType] = [_head(page)]
    if problem:
        parts.append(Text(problem, style="red"))
    parts += [
        _programs(programs),
        _replicas(replicas),
        _holds(holds[:held_rows], totals.get("held", len(holds))),
        _sessions(sessions[:rest], totals.get("sessions", len(sessions))),
    ]
    return Group(*parts)


def _head(page: Json) -> Text:
    text = Text(f"{page.get('namespace', '?')}/{page.get('stack', '?')}", style="bold")
    text.append(f"   {page.get('mode', '?')}   {page.get('as_of', '')}", style="not bold")
    if not page.get("active"):
        text.append("   this scheduler stands by: nothing is decided here", style="red")
    totals = page.get("totals", {})
    text.append(
        f"\n{totals.get('runs', 0)} runs, {totals.get('sessions', 0)} sessions, {totals.get('in_flight', 0)} turns in flight, "
        f"{totals.get('held', 0)} held ({_bytes(totals.get('held_bytes', 0))})",
        style="not bold",
    )
    return text


def _table(title: str, *columns: str) -> Table:
    """Names to the left; a column whose name begins with > is of numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        justify = "right" if column.startswith(">") else "left"
        table.add_column(column.lstrip(">"), justify=justify, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    return table


def _programs(programs: Iterable[Json]) -> Table:
    table = _table(
        "\nPROGRAMS, last hour",
        "program",
        ">tasks",
        ">p50",
        ">p95",
        ">met",
        ">slowdown",
        ">turns",
        ">held",
        ">recompute",
    )
    for one in programs:
        completion, slowdown = one.get("completion_s") or {}, one.get("slowdown") or {}
        table.add_row(
            _text(one["name"]),
            _number(one.get("completed")),
            _seconds(completion.get("p50")),
            _seconds(completion.get("p95")),
            _percent(one.get("attainment_percent")),
            f"{slowdown['p50']:.1f}x" if "p50" in slowdown else "-",
            _number(one.get("turns")),
            _number(one.get("held")),
            _percent(one.get("recompute_percent")),
        )
    return table


def _replicas(replicas: Iterable[Json]) -> Table:
    table = _table(
        "\nREPLICAS",
        "replica",
        "role",
        "state",
        ">running",
        ">waiting",
        ">sessions",
        ">KV held",
        ">needed",
        ">capacity",
    )
    for one in replicas:
        state = "draining" if one["draining"] else "ready" if one["ready"] else "not ready"
        table.add_row(
            _text(one["name"]),
            one["role"],
            Text(state, style="" if state == "ready" else "yellow"),
            _number(one["running"]),
            _number(one["waiting"]),
            _number(one["residents"]),
            _tokens(one["held_tokens"]),
            _tokens(one["needed_tokens"]),
            _tokens(one["capacity_tokens"]),
        )
    return table


def _holds(holds: list[Json], total: int) -> Table:
    table = _table(
        _title("HOLDS", len(holds), total), "session", "program", ">held", ">at most", "reason", "because"
    )
    for one in holds:
        table.add_row(
            _text(one["session"]),
            _text(one["program"]),
            _seconds(one["held_s"]),
            _seconds(one["held_s"] + one["leaves_in_s"]),
            Text(one["reason"], style="yellow"),
            _text(one["because"] or ""),
        )
    return table


def _sessions(sessions: list[Json], total: int) -> Table:
    table = _table(
        _title("SESSIONS", len(sessions), total),
        "session",
        "client",
        ">turn",
        "state",
        ">for",
        ">prompt",
        "replica",
        "reason",
    )
    for one in sessions:
        table.add_row(
            _text(one["id"]),
            one["client"],
            _number(one["turn"]),
            Text(one["state"], style=_STATE_STYLE.get(one["state"], "")),
            _seconds(one["since_s"]),
            _tokens(one["prompt_tokens"]),
            _text(one["replica"] or "-"),
            one["reason"] or "-",
        )
    return table


def _title(name: str, shown: int, total: int) -> str:
    return f"\n{name}" if shown >= total else f"\n{name}, {shown} of {total}"


def _text(said: str) -> Text:
    """As it is: names come from outside and are no markup, and control characters must not reach the terminal."""
    return Text("".join(c if c.isprintable() else "?" for c in said))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 100:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes // 60} h {minutes % 60:02} m" if minutes >= 100 else f"{minutes} m {seconds:02} s"


def _tokens(value: float | None) -> str:
    if value is None:
        return "-"
    return (
        f"{value / 1e6:.1f}M" if value >= 1e6 else f"{value / 1e3:.0f}k" if value >= 1e4 else f"{value:.0f}"
    )


def _bytes(value: float) -> str:
    return f"{value / 2**20:.1f} MiB" if value >= 2**20 else f"{value / 2**10:.0f} KiB"
