"""`simulate`: a small grid on the recorded sample, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Call

TRACES = Path(__file__).parents[2] / "traces"
CODE = TRACES / "claude_code.jsonl"
#: Two replicas that hold two of the sample's longest prompts each.
SMALL = ("simulate", "--trace", CODE, "--replicas", 2, "--cache-tokens", 400_000, "--seeds", 2, "--jobs", 1)


def test_a_grid_is_a_table_on_stdout_and_progress_on_stderr(call: Call) -> None:
    done = call(*SMALL, "--demand", 1, "--policy", "scorers", "--against", "round-robin")
    assert done.exit_code == 0, done.output
    assert "Live programs want 1 times the caches" in done.stdout
    assert "400,000 tokens per replica, as given" in done.stdout
    rows = [line.split()[0] for line in done.stdout.splitlines()[2:4]]
    assert rows == ["scorers", "round-robin"]  # the one compared with is simulated too
    assert "simulate" in done.stderr
    assert "4/4" in done.stderr


def test_json_says_what_was_simulated(call: Call) -> None:
    done = call(*SMALL, "--rate", 0.05, "--policy", "scorers", "-o", "json", "--warmup", "10s")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["workload"]["programs"] == 14
    assert found["replica"]["cacheTokens"] == 400_000
    assert found["warmupSeconds"] == 10
    assert [load["name"] for load in found["loads"]] == ["0.05/s"]
    assert len(found["cells"]) == 2


def test_traces_with_arrival_times_are_run_as_recorded(call: Call) -> None:
    done = call(
        "simulate", "--trace", TRACES / "mooncake.jsonl", "--replicas", 2, "--cache-tokens", 400_000, "--seeds", 1,
        "--jobs", 1, "--policy", "scorers",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Arrivals as recorded, 1 times as fast" in done.stdout


def test_programs_may_be_made_up_instead(call: Call) -> None:
    done = call(
        "simulate", "--workload", "long-horizon", "--sessions", 6, "--replicas", 2, "--cache-tokens", 200_000,
        "--rate", 0.05, "--policy", "scorers", "--seeds", 1, "--jobs", 1, "-o", "json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["workload"]["kind"] == "long-horizon"
    assert json.loads(done.stdout)["workload"]["programs"] == 6
    unknown = call("simulate", "--workload", "poetry", "--cache-tokens", 200_000)
    assert "--workload: there is no 'poetry'; use one of long-horizon" in f"{unknown.exception}"


def test_a_model_on_an_accelerator_says_cache_and_speed(call: Call) -> None:
    done = call(
        "simulate", "--trace", CODE, "--replicas", 2, "--model", "Qwen/Qwen3-8B", "--accelerator", "nvidia-h100",
        "--demand", 0.5, "--policy", "scorers", "--seeds", 1, "--jobs", 1,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "tokens per replica of Qwen/Qwen3-8B on 1 x nvidia-h100" in done.stdout
    assert "within a factor of two" in done.stdout


def test_files_are_written_where_asked(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    done = call(*SMALL, "--demand", 1, "--policy", "scorers", "--output-dir", folder)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in folder.iterdir()) == [
        "demand.png", "demand.svg", "report.json", "report.md",
    ]  # fmt: skip
    assert json.loads((folder / "report.json").read_text())["complete"] is True


def test_a_profile_may_be_a_file(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base_s: 0.01\nprefill_token_s: 0.0001\nsource: measured on a bench\n")
    done = call(*SMALL, "--demand", 1, "--policy", "scorers", "--profile", path)
    assert done.exit_code == 0, done.output
    assert "profile mine (measured on a bench)" in done.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--demand", "9"], "--demand 9: means"),
        (["--demand", "-1"], "--demand: must be positive"),
        (["--workload", "long-horizon"], "--trace: or --workload: give one of the two"),
        (["--recorded", "2"], "--recorded: the programs have no arrival times"),
        (["--policy", "best"], "--policy: there is no 'best'"),
        (["--against", "best"], "--against: there is no 'best'"),
        (["--replicas", "0"], "--replicas: must be at least 1"),
        (["--jobs", "0"], "--jobs: must be at least 1"),
        (["--seeds", "0"], "--seeds: must be at least 1"),
        (["--max-seqs", "0"], "--max-seqs: must be at least 1"),
        (["--tool-scale", "-1"], "--tool-scale: must not be negative"),
        (["--sessions", "0"], "--sessions: must be at least 1"),
        (["--cache-tokens", "1000"], "never fit"),
        (["--model", "Qwen/Qwen3-8B"], "--model: and --accelerator go together"),
        (["--model", "gpt-9", "--accelerator", "nvidia-h100"], "--model: gpt-9 is not in"),
        (["--model", "Qwen/Qwen3-8B", "--accelerator", "h100"], "--accelerator: there is no preset 'h100'"),
        (["--profile", "slow"], "--profile: there is no 'slow'"),
        (["--profile", "absent.yaml"], "--profile: absent.yaml: No such file"),
        (["--trace", "absent"], "absent: No such file"),
        (["--trace", str(TRACES / "mooncake.jsonl")], "need blocks of one size"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_before_anything_is_simulated(
    call: Call, options: list[str], told: str
) -> None:
    done = call(*SMALL, "--policy", "scorers", *options)
    assert told in f"{done.exception}"
    assert "0:0" not in done.stderr  # no bar was started


def test_ctrl_c_leaves_a_report_of_what_is_done(tmp_path: Path) -> None:
    """A real process: the first cell is there when it is interrupted, and there would be hundreds."""
    command = [
        sys.executable, "-m", "agentic_serving", *map(str, SMALL), "--demand", "1", "--seeds", "100000",
        "--policy", "scorers", "--output-dir", str(tmp_path / "out"),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "TTY_COMPATIBLE": "1",
        "TTY_INTERACTIVE": "1",
    }  # rich: draw the bar into the pipe
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # What is started in the background of a script, such as CI, inherits a SIGINT that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        seen = ""
        while " at 1x" not in seen:  # the bar names the cell that was done last
            seen += process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "INTERRUPTED after" in out
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (found["complete"], found["simulations"]["planned"]) == (False, 100_000)
    assert found["cells"]
