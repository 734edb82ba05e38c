"""A run as a picture: a row for each session, a bar for each turn, a line where one session starts another.

A bar is held (its colour says why), then prefill, then decode; red below it is the share of the prompt that was computed
again. Pointing at a bar says everything in words. SVG by hand: no package, and text stays text.
"""

from typing import Any
from xml.etree import ElementTree as ET

from agentic_serving.cli.run_timeline import Scale, scale_of, ticks

__all__ = ["drawn"]

Json = dict[str, Any]

_WIDTH, _LABELS, _MARGIN = 1200.0, 230.0, 16.0
_TOP, _ROW, _BAR = 84.0, 34.0, 18.0
_MAX_ROWS = 200
_LABEL_CHARS = 30
#: Bars that have room for the turn's number, and for its replica's name.
_NUMBER_WIDTH, _REPLICA_WIDTH = 16.0, 60.0

_INK, _FAINT, _GRID = "#1f2328", "#6e7781", "#e6e8eb"
#: Blue and green for work, warm colours for waiting: told apart by people who see no red or green too.
_PREFILL, _DECODE, _AGAIN, _FAILED = "#3b7dd8", "#8bc6a0", "#c62828", "#8c1d18"
_HOLDS = {
    "WaitsForRoom": "#f2a900",
    "WaitsForSibling": "#b07cc6",
    "WaitsForPrefill": "#e07b39",
    "Observing": "#c9ced6",
}
_OTHER_HOLD = "#d0a85c"
_GAP_DASH = {"tool": "", "human": "2 4"}


def drawn(run: Json) -> str:
    """The picture, as an SVG document."""
    sessions = run["sessions"][:_MAX_ROWS]
    scale = scale_of(run, _WIDTH - _LABELS - 2 * _MARGIN)
    height = _TOP + _ROW * len(sessions) + 62
    svg = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": _n(_WIDTH),
            "height": _n(height),
            "viewBox": f"0 0 {_n(_WIDTH)} {_n(height)}",
            "font-family": "Helvetica, Arial, DejaVu Sans, sans-serif",
            "font-size": "12",
        },
    )
    _box(svg, 0, 0, _WIDTH, height, "#ffffff")
    _head(svg, run)
    _axis(svg, scale, len(sessions))
    rows = {session["id"]: row for row, session in enumerate(sessions)}
    for row, session in enumerate(sessions):
        _fork(svg, session, row, rows, scale)
    for row, session in enumerate(sessions):
        _session(svg, session, row, scale, run["now_s"])
    _legend(svg, sessions, height - 20, len(run["sessions"]) - len(sessions))
    return ET.tostring(svg, encoding="unicode")


def _head(svg: ET.Element, run: Json) -> None:
    _say(svg, _MARGIN, 24, f"run {run['id']}", size=16, weight="bold")
    state = f"over: {run['over']}" if run["over"] else "not over"
    turns = sum(len(s["turns"]) for s in run["sessions"])
    text = (
        f"{run['namespace']}/{run['stack']}, program {run['program']}, {run['mode']}, "
        f"{len(run['sessions'])} sessions, {turns} turns, {state}"
    )
    for number, task in enumerate(run["tasks"][:4], 1):
        text += f"; task {number}: {task['took_s']:.1f} s"
        text += f" ({task['took_s'] / task['alone_s']:.1f} times alone)" if task["alone_s"] > 0 else ""
    _say(svg, _MARGIN, 44, text, colour=_FAINT)


def _axis(svg: ET.Element, scale: Scale, rows: int) -> None:
    bottom = _TOP + _ROW * rows
    for at_s in ticks(scale):
        x = _x(scale, at_s)
        _line(svg, x, _TOP - 6, x, bottom, _GRID)
        _say(svg, x, _TOP - 12, f"{at_s:g} s", colour=_FAINT, anchor="middle")
    for fold in scale.folds:
        left, right = _x(scale, fold.begin_s), _x(scale, fold.end_s)
        _box(svg, left, _TOP - 6, right - left, bottom - _TOP + 6, "#f3f4f6")
        length = fold.end_s - fold.begin_s
        text = f"{length:.0f} s" if length < 120 else f"{length / 60:.0f} min"
        _say(svg, (left + right) / 2, bottom + 14, text, colour=_FAINT, anchor="middle", size=10)


def _fork(svg: ET.Element, session: Json, row: int, rows: dict[str, int], scale: Scale) -> None:
    """From the row of the parent down to this one's first turn."""
    parent = rows.get(session["parent"] or "")
    if parent is None or not session["turns"] or parent == row:
        return
    x = _x(scale, session["turns"][0]["came_s"])
    _line(svg, x, _middle(parent), x, _middle(row), _FAINT)
    ET.SubElement(svg, "circle", {"cx": _n(x), "cy": _n(_middle(parent)), "r": "2.5", "fill": _FAINT})


def _session(svg: ET.Element, session: Json, row: int, scale: Scale, now_s: float) -> None:
    indent = min(session["depth"], 6) * 12
    label = _say(svg, _MARGIN + indent, _middle(row) + 4, _label(session, indent))
    ET.SubElement(label, "title").text = _legal(session["id"])
    turns = session["turns"]
    for turn, following in zip(turns, [*turns[1:], None], strict=True):
        if turn["ended_s"] is not None and following is not None:
            kind = (turn["gap"] or {}).get("kind", following["kind"])
            _line(
                svg,
                _x(scale, turn["ended_s"]),
                _middle(row),
                _x(scale, following["came_s"]),
                _middle(row),
                _FAINT,
                dash=_GAP_DASH.get(kind, ""),
            )
        _turn(svg, turn, row, scale, now_s)


def _label(session: Json, indent: float) -> str:
    """The end of a name, as a child's name often begins with its parent's; that is left out whole."""
    name: str = session["id"]
    if session["parent"] and name.startswith(session["parent"] + "/"):
        name = name[len(session["parent"]) :]
    most = _LABEL_CHARS - int(indent / 7)
    return name if len(name) <= most else f"…{name[-most + 1 :]}"


def _turn(svg: ET.Element, turn: Json, row: int, scale: Scale, now_s: float) -> None:
    group = ET.SubElement(svg, "g")
    ET.SubElement(group, "title").text = _legal(_words(turn))
    end_s = turn["ended_s"] if turn["ended_s"] is not None else now_s
    top = _middle(row) - _BAR / 2
    admitted_s = _part_held(group, turn, scale, top, end_s)
    began_s = turn["first_token_s"] if turn["first_token_s"] is not None else end_s
    for begin, end, colour in ((admitted_s, began_s, _PREFILL), (began_s, end_s, _DECODE)):
        _part(group, scale, begin, end, top, colour)
    left, right = _x(scale, turn["came_s"]), max(_x(scale, end_s), _x(scale, turn["came_s"]) + 2)
    again = sum((turn.get("recomputed") or {}).values())
    if again and turn["prompt_tokens"]:
        share = min(1.0, again / turn["prompt_tokens"])
        _box(group, left, top + _BAR + 1, max(2.0, (right - left) * share), 3, _AGAIN)
    outline = {"stroke": _FAILED, "stroke-width": "1.5", "stroke-dasharray": "3 2"}
    broken = turn["outcome"] not in (None, "Answered")
    _box(group, left, top, right - left, _BAR, "none", **(outline if broken else {}))
    if right - left > _NUMBER_WIDTH:
        _say(group, left + 4, top + _BAR - 5, f"{turn['turn']}", size=11, weight="bold")
    decode_width = right - _x(scale, began_s)
    if decode_width > _REPLICA_WIDTH and turn["replica"]:
        _say(group, right - 4, top + _BAR - 5, turn["replica"][-12:], size=10, anchor="end")


def _part_held(group: ET.Element, turn: Json, scale: Scale, top: float, end_s: float) -> float:
    """The waiting; when it was over."""
    at_s = float(turn["came_s"])
    decisions = turn["decisions"]
    for decision, following in zip(decisions, [*decisions[1:], None], strict=True):
        until_s = float(following["at_s"]) if following is not None else at_s
        if decision["verdict"] == "Hold":
            until_s = until_s if following is not None else end_s
            _part(group, scale, decision["at_s"], until_s, top, _HOLDS.get(decision["reason"], _OTHER_HOLD))
        at_s = max(at_s, until_s)
    return at_s


def _part(group: ET.Element, scale: Scale, begin_s: float, end_s: float, top: float, colour: str) -> None:
    left, right = _x(scale, begin_s), _x(scale, end_s)
    if right > left:
        _box(group, left, top, max(right - left, 0.75), _BAR, colour)


def _words(turn: Json) -> str:
    lines = [
        f"turn {turn['turn']} ({turn['kind']}{', ' + turn['side'] if turn['side'] else ''}), came at {turn['came_s']:.2f} s",
        f"{turn['prompt_tokens']:,} prompt tokens, {turn['new_tokens']:,} new",
    ]
    for decision in turn["decisions"]:
        because = f": {decision['because']}" if decision["because"] else ""
        lines.append(f"{decision['at_s']:.2f} s {decision['verdict']} {decision['reason']}{because}")
    if turn["outcome"] == "Answered":
        lines.append(
            f"{turn['output_tokens']:,} tokens from {turn['replica'] or '?'}, {turn['cached_tokens']:,} cached"
        )
        lines += [f"computed again: {n:,} {cause}" for cause, n in turn["recomputed"].items() if n]
    else:
        lines.append(turn["outcome"] or f"{turn['state'].lower()} now")
    return "\n".join(lines)


def _legend(svg: ET.Element, sessions: list[Json], y: float, left_out: int) -> None:
    held = {
        d["reason"] for s in sessions for t in s["turns"] for d in t["decisions"] if d["verdict"] == "Hold"
    }
    entries = [(f"held: {reason}", _HOLDS.get(reason, _OTHER_HOLD)) for reason in sorted(held)]
    entries += [("prefill", _PREFILL), ("decode", _DECODE), ("computed again (share of prompt)", _AGAIN)]
    x = _MARGIN
    for text, colour in entries:
        _box(svg, x, y - 9, 12, 10, colour)
        _say(svg, x + 17, y, text, colour=_FAINT)
        x += 17 + 6.4 * len(text) + 18
    notes = "line: tool, dotted: person" + (f"; {left_out} more sessions are not drawn" if left_out else "")
    _say(svg, _WIDTH - _MARGIN, y, notes, colour=_FAINT, anchor="end")


def _x(scale: Scale, at_s: float) -> float:
    return _MARGIN + _LABELS + scale.x(at_s)


def _middle(row: int) -> float:
    return _TOP + _ROW * row + _ROW / 2


def _box(
    parent: ET.Element, x: float, y: float, width: float, height: float, fill: str, **more: str
) -> ET.Element:
    sizes = {"x": _n(x), "y": _n(y), "width": _n(width), "height": _n(height), "fill": fill}
    return ET.SubElement(parent, "rect", {**sizes, **more})


def _line(
    parent: ET.Element, x1: float, y1: float, x2: float, y2: float, colour: str, *, dash: str = ""
) -> None:
    ends = {"x1": _n(x1), "y1": _n(y1), "x2": _n(x2), "y2": _n(y2), "stroke": colour}
    ET.SubElement(parent, "line", {**ends, **({"stroke-dasharray": dash} if dash else {})})


def _say(
    parent: ET.Element,
    x: float,
    y: float,
    text: str,
    *,
    colour: str = _INK,
    size: int = 12,
    weight: str = "normal",
    anchor: str = "start",
) -> ET.Element:
    place = {"x": _n(x), "y": _n(y), "fill": colour, "font-size": str(size), "font-weight": weight}
    element = ET.SubElement(parent, "text", {**place, "text-anchor": anchor})
    element.text = _legal(text)
    return element


def _legal(text: str) -> str:
    """XML has no control characters and no half characters."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
