"""`agentic-serving replay`: recorded agent sessions onto an endpoint."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from agentic_serving.api.quantities import parse_duration
from agentic_serving.cli.output import data
from agentic_serving.errors import InvalidInput

__all__ = ["replay"]


def _seconds(_context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A duration as Kubernetes writes it, in seconds."""
    return None if value is None else parse_duration(value, parameter.opts[0])


def _headers(
    _context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """`NAME:VALUE` as curl writes it."""
    pairs = []
    for value in values:
        name, colon, text = value.partition(":")
        if not colon or not name.strip():
            raise InvalidInput(parameter.opts[0], f"expected NAME:VALUE, found {value!r}")
        pairs.append((name.strip(), text.strip()))
    return tuple(pairs)


@click.command()
@click.argument("traces", nargs=-1, required=True, metavar="TRACE...", type=click.Path(path_type=Path))
@click.option("--endpoint", required=True, metavar="URL", help="Base URL, with or without /v1.")
@click.option("--model", required=True, metavar="NAME", help="The served model's name.")
@click.option("--api-key", envvar="OPENAI_API_KEY", default="unused", help="Or $OPENAI_API_KEY.")
@click.option(
    "--client",
    type=click.Choice(("claude-code", "codex", "opencode", "mixed")),
    default="claude-code",
    show_default=True,
    help="Whose headers and API; mixed: in turn, program by program.",
)
@click.option(
    "--api",
    type=click.Choice(("messages", "responses", "chat", "completions")),
    help="Instead of the client's own: /v1/messages, /v1/responses or /v1/chat/completions.",
)
@click.option(
    "--token-scale",
    type=float,
    default=1.0,
    show_default=True,
    help="Shorten every block of the trace to this part of its tokens (at least 1), and answers likewise.",
)
@click.option("--max-output-tokens", type=int, default=4096, show_default=True, help="Bound of an answer.")
@click.option(
    "--gap-scale", type=float, default=1.0, show_default=True, help="Multiply gaps of tools and humans."
)
@click.option(
    "--max-gap",
    callback=_seconds,
    metavar="TIME",
    default="60s",
    show_default=True,
    help="And wait at most this long.",
)
@click.option(
    "--time-scale",
    type=float,
    default=1.0,
    show_default=True,
    help="Multiply arrival times of open-loop traces (Mooncake): 0.5 is twice the load.",
)
@click.option(
    "--sessions", type=int, metavar="N", help="Only N programs of the trace; drawn by --seed unless it is 0."
)
@click.option("--concurrency", type=int, default=8, show_default=True, help="Programs at the same time.")
@click.option(
    "--duration",
    callback=_seconds,
    metavar="TIME",
    help="Start programs over until then, with new words; running turns are finished. Without: each once.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Of words; the same words hit what an earlier replay left cached.",
)
@click.option(
    "--retries", type=int, default=4, show_default=True, help="How often a failed request is sent again."
)
@click.option(
    "--timeout", callback=_seconds, metavar="TIME", default="10m", show_default=True, help="Of one request."
)
@click.option(
    "--tool-choice",
    type=click.Choice(("none", "auto")),
    default="none",
    show_default=True,
    help="auto as the clients send it: the engine then needs a tool parser.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    callback=_headers,
    metavar="NAME:VALUE",
    help="Sent with every request, over the client's own; may be given several times.",
)
@click.option("--ignore-eos", is_flag=True, help="Answers of exactly the recorded length; a vLLM extension.")
@click.option("--tokens-per-word", type=float, help="Of the server's tokenizer; measured without it.")
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="JSON report of the same replay on an unloaded endpoint (--concurrency 1): gives slowdowns.",
)
@click.option(
    "--plot", "plot_path", type=click.Path(path_type=Path), metavar="FILE", help="Picture, .png or .svg."
)
@click.option("-o", "--output", type=click.Choice(("text", "json")), default="text", show_default=True)
@click.option("--allow-errors", is_flag=True, help="Exit with 0 even if turns failed.")
def replay(traces: tuple[Path, ...], output: str, *, allow_errors: bool, **given: Any) -> None:
    """Replay recorded agent sessions onto an endpoint, as real clients do.

    TRACE is a file or folder with Claude Code sessions, Mooncake requests or OpenTelemetry gen_ai spans. Conversations
    grow and repeat their blocks as recorded, tools and humans take their time, sub-agents run side by side; the words are
    made up. The table or JSON goes to stdout, progress to stderr.

    Exit codes: 0 all turns were answered; 1 some failed for good; 2 bad input, or the endpoint cannot be used.
    """
    try:
        from agentic_serving.cli import replaying
    except ModuleNotFoundError as error:
        raise InvalidInput("replay", f"needs {error.name}: pip install 'agentic-serving[replay]'") from None
    found = asyncio.run(replaying.run(traces, given))
    click.echo(data(found.data(), "json") if output == "json" else replaying.text(found))
    if given["plot_path"] is not None:
        replaying.plot(
            found, given["plot_path"]
        )  # after the figures: those are not lost if it cannot be written
    if found.n_errors and not allow_errors:
        click.echo(
            f"error: {found.n_errors} requests failed for good (--allow-errors: exit with 0)", err=True
        )
        sys.exit(1)
