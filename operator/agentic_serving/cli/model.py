"""`agentic-serving model inspect`: facts for sizing, from a model's own files."""

import sys
from pathlib import Path

import click

from agentic_serving.api.quantities import format_bytes
from agentic_serving.capacity.inspect import CannotTell, inspect_path
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.cli.options import output as output_option
from agentic_serving.cli.output import data

__all__ = ["model"]

#: Bytes of one element of the KV cache, by the engine's --kv-cache-dtype.
_ELEMENT_BYTES = {"auto": 2, "fp8": 1}


@click.group()
def model() -> None:
    """Facts about models."""


@model.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--kv-cache-dtype",
    type=click.Choice(tuple(_ELEMENT_BYTES)),
    default="auto",
    show_default=True,
    help="As the engine's option; auto is 16 bits.",
)
@output_option()
def inspect(path: Path, kv_cache_dtype: str, output: str) -> None:
    """Derive spec.model.profile from a Hugging Face config.json, or from the folder that holds it.

    In a folder the size of the weights is read as well. The exit code is 1 where the files do not say enough.
    """
    profile = inspect_path(path, kv_element_bytes=_ELEMENT_BYTES[kv_cache_dtype])
    if isinstance(profile, CannotTell):
        click.echo(f"cannot tell: {profile.reason}", err=True)
        sys.exit(1)
    click.echo(_text(profile) if output == "text" else data(_spec(profile), output))


def _spec(profile: ModelProfile) -> dict[str, object]:
    """The profile as it goes into an AgenticServingStack."""
    spec: dict[str, object] = {"kvBytesPerToken": profile.kv_bytes_per_token}
    heads = 1 if profile.attention == "MLA" else profile.n_kv_heads
    if heads:
        spec["kvHeads"] = heads
    if profile.weight_bytes:
        spec["weightBytes"] = format_bytes(profile.weight_bytes)
    return {"spec": {"model": {"profile": spec}}}


def _text(profile: ModelProfile) -> str:
    lines = [
        f"attention             {profile.attention}",
        f"KV cache per token    {profile.kv_bytes_per_token} bytes in layers that keep the whole context",
    ]
    if profile.window_tokens:
        lines.append(
            f"                      {profile.window_bytes_per_token} bytes for the last {profile.window_tokens} tokens"
        )
    if profile.state_bytes_per_sequence:
        lines.append(f"state per sequence    {profile.state_bytes_per_sequence} bytes, whatever its length")
    if profile.weight_bytes:
        lines.append(f"weights               {format_bytes(profile.weight_bytes)}")
    if profile.max_context_tokens:
        lines.append(f"longest context       {profile.max_context_tokens} tokens")
    lines += ["", "in an AgenticServingStack:", data(_spec(profile), "yaml")]
    return "\n".join(lines)
