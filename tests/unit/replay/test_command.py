"""`agentic-serving replay` as a user calls it: help, output, exit codes, and that bad input is one line."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from agentic_serving.cli import main

from .conftest import Endpoint

TRACES = Path(__file__).parents[2] / "traces"


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agentic_serving", "replay", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


async def run_beside(*args: object) -> subprocess.CompletedProcess[str]:
    """As `run`, while the endpoint in this process goes on answering."""
    return await asyncio.to_thread(run, *args)


def to(endpoint: Endpoint) -> list[str]:
    return [
        "--endpoint",
        endpoint.url,
        "--model",
        "m",
        "--token-scale",
        "0.02",
        "--gap-scale",
        "0",
        "--sessions",
        "2",
    ]


def test_help_says_what_it_does() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("--endpoint", "--token-scale", "--baseline", "--allow-errors", "Exit codes"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["absent.jsonl"], "error: absent.jsonl: No such file or directory"),
        (["{bad}"], "bad.jsonl:1: is not JSON"),
        (["{good}", "--endpoint", "chat:80"], "error: --endpoint: expected a URL"),
        (["{good}", "--token-scale", "0"], "error: --token-scale: must be more than 0"),
        (["{good}", "--max-gap", "soon"], "error: --max-gap: "),
        (["{good}", "--plot", "x.gif"], "error: --plot: x.gif: expected a name that ends with .png or .svg"),
        (
            ["{good}", "--plot", "absent/x.png"],
            "error: --plot: absent/x.png: the folder absent does not exist",
        ),
        (["{good}", "--baseline", "{bad}"], "bad.jsonl: is not JSON"),
        (["{good}", "--baseline", "{other}"], "other.json: is not a report"),
        (
            ["{good}", "--retries", "0"],
            "error: --endpoint: http://127.0.0.1:9/v1 cannot be used: cannot connect",
        ),
    ],
    ids=[
        "missing",
        "malformed",
        "url",
        "scale",
        "duration",
        "plot",
        "folder",
        "baseline",
        "not a report",
        "refused",
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    args: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {
        "bad": tmp_path / "bad.jsonl",
        "other": tmp_path / "other.json",
        "good": TRACES / "mooncake.jsonl",
    }
    names["bad"].write_text("{nothing\n")
    names["other"].write_text("{}")
    filled = [a.format(**names) for a in args]
    monkeypatch.setattr(
        sys,
        "argv",
        ["agentic-serving", "replay", "--endpoint", "http://127.0.0.1:9", "--model", "m", *filled],
    )
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert message in printed.err
    assert printed.out == ""


async def test_text_goes_to_stdout_and_progress_to_stderr(endpoint: Endpoint) -> None:
    done = await run_beside(*to(endpoint), TRACES / "claude_code.jsonl")
    assert done.returncode == 0, done.stderr
    assert "first token after a tool, s" in done.stdout
    assert "tokens 0.02, gaps 0 up to 60 s" in done.stdout, "a report states its scales"
    assert "17/17" in done.stderr


async def test_json_is_a_report_and_can_be_a_baseline(endpoint: Endpoint, tmp_path: Path) -> None:
    alone = await run_beside(*to(endpoint), TRACES / "claude_code.jsonl", "-o", "json")
    report = json.loads(alone.stdout)
    assert report["options"]["tokenScale"] == 0.02
    assert len(report["records"]) == report["turns"]["count"] == 17
    (tmp_path / "alone.json").write_text(alone.stdout)
    picture = tmp_path / "picture.svg"
    more = ["--baseline", tmp_path / "alone.json", "--plot", picture]
    done = await run_beside(*to(endpoint), TRACES / "claude_code.jsonl", *more)
    assert done.returncode == 0, done.stderr
    assert "slowdown of tasks" in done.stdout
    assert "<svg" in picture.read_text()


async def test_errors_end_with_1_unless_allowed(endpoint: Endpoint) -> None:
    async def script(_request: web.Request, _body: object) -> web.Response:
        return web.json_response({"error": {"message": "too long"}}, status=400)

    endpoint.script = script
    done = await run_beside(*to(endpoint), TRACES / "claude_code.jsonl")
    assert done.returncode == 1
    assert "17 x HTTP 400" in done.stdout
    assert "too long" in done.stdout
    allowed = await run_beside(*to(endpoint), TRACES / "claude_code.jsonl", "--allow-errors")
    assert allowed.returncode == 0
