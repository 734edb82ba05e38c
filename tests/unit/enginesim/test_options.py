"""enginesim's command line: what the operator renders is understood, what vLLM refuses is refused."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentic_serving.enginesim.build import sizes_of
from agentic_serving.enginesim.knobs import Knobs
from agentic_serving.enginesim.lmcache.commandline import parse as parse_lmcache
from agentic_serving.enginesim.main import main
from agentic_serving.enginesim.options import UsageError, parse_serve
from agentic_serving.enginesim.transfer import connectors_of
from agentic_serving.errors import InvalidInput

GOLDEN = Path(__file__).parents[1] / "golden"


def _containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(GOLDEN.glob("*/*.yaml")):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if isinstance(document, dict):
                yield from ((f"{file.parent.name}/{file.stem}", c) for c in _walk(document))


def _walk(value: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - a document
    if isinstance(value, dict):
        if "image" in value and value.get("command"):
            yield value
        for part in value.values():
            yield from _walk(part)
    elif isinstance(value, list):
        for part in value:
            yield from _walk(part)


def _lines(*command: str) -> dict[str, tuple[str, ...]]:
    """Distinct argument lists of a command, by where one was found."""
    found = {tuple(c["args"]): name for name, c in _containers() if tuple(c["command"]) == command}
    return {f"{name}-{i}": args for i, (args, name) in enumerate(found.items())}


SERVE = _lines("vllm", "serve")


@pytest.mark.parametrize("name", SERVE)
def test_every_rendered_command_line_is_understood(name: str) -> None:
    options = parse_serve(SERVE[name], "0.33.0")
    assert options.served_names[0] == next(a for a in SERVE[name] if "served-model-name" in a).split("=")[1]
    assert options.block_tokens == 64
    assert options.prompt_details
    assert set(options.ignored) <= {
        "--disable-access-log-for-endpoints",
        "--enable-expert-parallel",
        "--gpu-memory-utilization",
        "--tensor-parallel-size",
        "--data-parallel-size",
        "--dtype",
    }


def test_golden_files_hold_every_kind_of_connector() -> None:
    names = {
        c["kv_connector"]
        for args in SERVE.values()
        for c in connectors_of(parse_serve(args, "0.33.0").kv_transfer).configs
    }
    assert names == {"LMCacheMPConnector", "OffloadingConnector", "NixlConnector"}


@pytest.mark.parametrize("command", ["server", "coordinator"])
def test_every_rendered_lmcache_command_line_is_understood(command: str) -> None:
    lines = _lines("lmcache", command)
    assert lines
    for args in lines.values():
        assert parse_lmcache(command, args).chunk_size == "256"


REFUSED = {
    "unknown": (["m", "--frobnicate", "3"], "vllm: error: unrecognized arguments: --frobnicate 3"),
    "choice": (
        ["m", "--scheduling-policy=lifo"],
        "argument --scheduling-policy: invalid choice: 'lifo' (choose from",
    ),
    "no-value": (["m", "--port"], "argument --port: expected one argument"),
    "no-number": (["m", "--port=many"], "argument --port: invalid int value: 'many'"),
    "no-json": (["m", "--kv-transfer-config={"], "argument --kv-transfer-config: Value {"),
    "no-role": (["m", '--kv-transfer-config={"kv_connector":"NixlConnector"}'], "Please specify kv_role"),
    "no-parser": (
        ["m", "--enable-auto-tool-choice"],
        "--enable-auto-tool-choice requires --tool-call-parser",
    ),
    "wrong-parser": (["m", "--tool-call-parser=hermez"], "invalid tool call parser: hermez"),
    "cannot": (["m", "--ssl-keyfile=k"], "the engine simulator cannot do this"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_option_and_end_with_2(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    argv, message = REFUSED[name]
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_serve(argv, "0.33.0")
    assert main(["serve", *argv]) == 2
    assert message in capsys.readouterr().err


def test_unknown_commands_end_with_2() -> None:
    assert main(["bench"]) == 2


@pytest.mark.parametrize(
    ("text", "tokens"), [("16k", 16_000), ("16K", 16_384), ("1.5k", 1500), ("4096", 4096)], ids=str
)
def test_lengths_as_people_write_them(text: str, tokens: int) -> None:
    assert parse_serve(["m", f"--max-model-len={text}"], "0.33.0").max_model_len == tokens


def test_dotted_parts_are_laid_over_the_json() -> None:
    argv = [
        "m",
        '--kv-transfer-config={"kv_connector":"NixlConnector"}',
        "--kv-transfer-config.kv_role=kv_both",
    ]
    assert parse_serve(argv, "0.33.0").kv_transfer == {"kv_connector": "NixlConnector", "kv_role": "kv_both"}


def test_a_cache_that_cannot_hold_one_sequence_does_not_start() -> None:
    options = parse_serve(["m", "--max-model-len=1024"], "0.33.0")
    with pytest.raises(InvalidInput, match="max seq len"):
        sizes_of(options, Knobs(kv_blocks=64))
    assert sizes_of(options, Knobs(kv_blocks=65)).n_blocks == 65


def test_the_cpu_cache_holds_what_its_space_holds() -> None:
    # Qwen3-0.6B keeps 28 layers x 8 heads x 128 x 2 (K, V) x 2 bytes = 114,688 bytes a token.
    options = parse_serve(["Qwen/Qwen3-0.6B", "--block-size=64", "--max-model-len=1k"], "0.33.0")
    assert sizes_of(options, Knobs(cpu_kv_gib=4)).n_blocks == 4 * 2**30 // (114_688 * 64)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ENGINESIM_TIME_SCALE", "fast"), ("ENGINESIM_TIME_SCALE", "-1"), ("ENGINESIM_VERSION", "0.1.0")],
)
def test_a_wrong_knob_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=name):
        Knobs.from_env({name: value})
