"""`agentic-serving explain run ID`: a run's sessions as a tree, every turn, and each decision with its reason."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from agentic_serving.cli.output import data
from agentic_serving.cli.run_svg import drawn
from agentic_serving.cli.scheduler_source import Source, Where, open_source, source_options
from agentic_serving.errors import InvalidInput

__all__ = ["explain_run", "told"]

Json = dict[str, Any]

_MAX_SUGGESTED = 5
_MAX_CHARS = 400  # of any text from outside


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--stack", metavar="NAME", help="Its stack; may be left out where the namespace has one.")
@source_options
@click.option(
    "--svg",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    metavar="FILE",
    help="Also draw it: a row for each session, a bar for each turn.",
)
@click.option("-o", "--output", type=click.Choice(("text", "json")), default="text", show_default=True)
def explain_run(run_id: str, stack: str | None, svg: Path | None, output: str, **where: Any) -> None:
    """Say what the scheduler did with the run ID, and why: its sessions, turns, holds and decisions.

    ID is the name of a run or of one of its sessions, as `top` shows them, or a part of a run's name that
    no other has.
    The scheduler remembers the newest 20,000 turns.
    """
    run = asyncio.run(_run(Where(stack=stack, **where), run_id))
    click.echo(data(run, "json") if output == "json" else "\n".join(told(run)))
    if svg is not None:
        try:
            svg.write_text(drawn(run), encoding="utf-8")
        except OSError as error:
            raise InvalidInput("--svg", f"{svg} cannot be written: {error.strerror}") from error
        click.echo(f"wrote {svg}", err=True)


async def _run(where: Where, name: str) -> Json:
    async with open_source(where) as source:
        page = await source.get(_path(name))
        if page is None:
            page = await source.get(_path(await _meant(source, name)))
    if page is None:
        raise InvalidInput(name, "the run has just been forgotten")
    return page


def _path(name: str) -> str:
    return f"/v1/runs/{quote(name, safe='')}"


async def _meant(source: Source, part: str) -> str:
    """The one run whose name contains the part."""
    page = await source.get("/v1/runs")
    if page is None:
        raise InvalidInput("explain run", "this is no scheduler, or an older one: it has no /v1/runs")
    names = [run["id"] for run in page["runs"]]
    found = [name for name in names if part in name]
    if len(found) == 1:
        return str(found[0])
    if found:
        raise InvalidInput(part, f"which one? {_some(found)}")
    known = f"the newest are {_some(names)}" if names else "none has come since the scheduler began"
    raise InvalidInput(part, f"no such run is remembered; {known}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_SUGGESTED} more" if len(names) > _MAX_SUGGESTED else ""
    return ", ".join(_clean(name) for name in names[:_MAX_SUGGESTED]) + more


def told(run: Json) -> Iterator[str]:
    """The run as lines."""
    turns = sum(len(session["turns"]) for session in run["sessions"]) + run["earlier_turns"]
    state = f"over ({run['over']})" if run["over"] else "not over"
    yield click.style(f"run {_clean(run['id'])}", bold=True)
    yield (
        f"  program {_clean(run['program'])} on {run['namespace']}/{run['stack']}, {run['mode']}; "
        f"began {run['began_s_ago']:.0f} s ago, {state}; {_count(len(run['sessions']), 'session')}, {_count(turns, 'turn')}"
    )
    if run["earlier_turns"]:
        yield f"  the first {run['earlier_turns']} turns are forgotten"
    for number, task in enumerate(run["tasks"], 1):
        yield "  " + _task(number, task)
    for session in run["sessions"]:
        yield ""
        yield from _session(session)


def _task(number: int, task: Json) -> str:
    text = f"task {number}: {task['took_s']:.1f} s in {_count(task['turns'], 'turn')}, {task['held_s']:.1f} s of it held"
    if task["alone_s"] > 0:
        text += (
            f"; {task['took_s'] / task['alone_s']:.1f} times the {task['alone_s']:.1f} s it would take alone"
        )
    return text


def _session(session: Json) -> Iterator[str]:
    indent = "  " * session["depth"]
    client = f" ({session['turns'][0]['client']})" if session["turns"] else ""
    end = f", over: {session['over']}" if session["over"] else ""
    yield f"{indent}{click.style(_clean(session['id']), bold=True)}{client}{end}"
    for turn in session["turns"]:
        for line in _turn(turn):
            yield f"{indent}  {line}"


def _turn(turn: Json) -> Iterator[str]:
    kind = f"{turn['kind']} ({turn['side']})" if turn["side"] else turn["kind"]
    text = f"turn {turn['turn']}, {kind}: {turn['prompt_tokens']:,} tokens, {turn['new_tokens']:,} new"
    if turn["divergence"] and turn["divergence"] != "append":
        text += f"; {_clean(turn['divergence'])}"
    if turn["confidence"] < 1:
        text += f"; whose it is: {turn['confidence']:.0%} sure"
    yield _line(turn["came_s"], click.style(text, bold=True))
    for decision in turn["decisions"]:
        yield _line(decision["at_s"], f"  {_decision(decision)}")
    if turn["first_token_s"] is not None:
        origin = f" from {_clean(turn['replica'])}" if turn["replica"] else ""
        yield _line(turn["first_token_s"], f"  first token{origin}")
    if turn["ended_s"] is not None:
        yield _line(turn["ended_s"], f"  {_ending(turn)}")
    else:
        yield " " * 12 + f"  {turn['state'].lower()} now"
    if turn["gap"] is not None:
        yield " " * 12 + f"  then {turn['gap']['took_s']:.1f} s of {turn['gap']['kind']}"


def _decision(decision: Json) -> str:
    where = f" to {_clean(decision['replica'])}" if decision["replica"] else ""
    text = f"{decision['verdict']}{where}, {decision['reason']}"
    if decision["verdict"] == "Admit":
        text += f", {decision['uncached_tokens']:,} tokens to compute"
    if decision["held_s"] > 0:
        text += f", held {decision['held_s']:.1f} s"
    style = "yellow" if decision["verdict"] == "Hold" else "red" if decision["verdict"] == "Refuse" else None
    because = f": {_clean(decision['because'])}" if decision["because"] else ""
    return click.style(text, fg=style) + because


def _ending(turn: Json) -> str:
    if turn["outcome"] != "Answered":
        status = f" (status {turn['status']})" if turn["status"] else ""
        return click.style(f"{turn['outcome']}{status}", fg="red")
    guess = " (a guess: no usage came)" if turn["estimated"] else ""
    text = (
        f"Answered: {turn['output_tokens']:,} tokens{guess}; {turn['cached_tokens']:,} of the prompt cached, "
        f"{turn['expected_cached_tokens']:,} expected"
    )
    lost = ", ".join(f"{tokens:,} {cause}" for cause, tokens in turn["recomputed"].items() if tokens)
    return text + (click.style(f"; computed again: {lost}", fg="red") if lost else "")


def _line(at_s: float, text: str) -> str:
    return f"{'+' + format(at_s, '.2f'):>10} s{text if text.startswith(' ') else ' ' + text}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _clean(text: str) -> str:
    """Names come from outside: nothing that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text[:_MAX_CHARS])
