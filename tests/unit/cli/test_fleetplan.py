"""`plan`: the smallest fleet on the recorded sample, its objects, and what it refuses."""

import json
from pathlib import Path

import pytest
import yaml

from agentic_serving.cli.fleet_outcome import Outcome
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation.equipment import Hardware, equipment
from agentic_serving.simulation.objective import Objective
from agentic_serving.simulation.planner import Choice, Plan, Shape, trial
from tests.unit.cli.conftest import Call

CODE = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
TOKENS = (
    "plan",
    "--trace",
    CODE,
    "--cache-tokens",
    400_000,
    "--seeds",
    1,
    "--jobs",
    1,
    "--policy",
    "scorers",
)
DEVICES = (
    "plan", "--trace", CODE, "--model", "Qwen/Qwen3-32B", "--accelerator", "nvidia-h100", "--tensor", 2,
    "--seeds", 1, "--jobs", 1, "--policy", "scorers", "--programs", 8,
)  # fmt: skip


def test_the_answer_its_neighbour_and_what_it_rests_on(call: Call) -> None:
    done = call(*TOKENS, "--programs", 8, "--slowdown", "p95=2")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Recommended: ")
    assert "Next smaller: " in done.stdout
    assert "Policy: scorers. Load: 8 programs at a time." in done.stdout
    assert "Routing: 1 router with current gauges" in done.stdout
    assert "hangs on fewer than five" in done.stdout  # 39 tasks
    assert "misses" in done.stderr


def test_a_less_kind_world_costs_no_less(call: Call) -> None:
    """Two routers with old gauges do not need fewer replicas than one with current ones."""

    def replicas(*options: object) -> int:
        done = call(*TOKENS, "--programs", 8, "--slowdown", "p95=2", "-o", "json", *options)
        assert done.exit_code == 0, done.output
        return int(json.loads(done.stdout)["recommended"]["replicas"])

    assert replicas("--routers", 2, "--scrape", "10s") >= replicas()


def test_json_has_the_curve_and_the_fleet_below_misses(call: Call) -> None:
    done = call(*TOKENS, "--programs", 8, "--slowdown", "p95=2", "-o", "json")
    found = json.loads(done.stdout)
    best, smaller = found["recommended"], found["nextSmaller"]
    assert best["value"] <= 2 < smaller["value"]
    assert smaller["replicas"] == best["replicas"] - 1
    assert {one["replicas"] for one in found["curve"]} >= {best["replicas"], smaller["replicas"]}
    assert found["objects"] == []  # of what model, on what device?


def test_the_objects_are_valid_and_say_what_was_simulated(call: Call, tmp_path: Path) -> None:
    done = call(
        *DEVICES,
        "--slowdown",
        "p95=3",
        "--host-memory",
        "200Gi",
        "--max-seqs",
        32,
        "--name",
        "coder",
        "-o",
        "yaml",
    )
    assert done.exit_code == 0, done.output
    path = tmp_path / "stack.yaml"
    path.write_text(done.stdout)
    checked = call("validate", path)
    assert checked.exit_code == 0, checked.output
    assert "2 objects: 0 errors, 0 warnings" in checked.stdout
    stack, policy = yaml.safe_load_all(done.stdout)
    assert stack["metadata"]["name"] == "coder"
    assert stack["spec"]["topology"]["aggregated"]["parallelism"] == {"tensor": 2}
    assert "--max-num-seqs=32" in stack["spec"]["engine"]["args"]
    assert stack["spec"]["kvTierPolicyRef"] == {"name": policy["metadata"]["name"]}
    assert policy["spec"]["hostMemory"]["capacityPerReplica"] == "200Gi"


def test_prefill_and_decode_apart_are_tried_too(call: Call) -> None:
    options = (*DEVICES, "--slowdown", "p95=5", "--ratio", "1:2", "--host-memory", "50Gi")
    done = call(*options, "-o", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    apart = [one for one in found["smallestOfEach"] if one["prefill"]]
    assert apart
    assert all(one["replicas"] == 3 * one["prefill"] for one in apart)


@pytest.mark.parametrize("host_bytes", [0, 100 << 30], ids=["device only", "host memory"])
@pytest.mark.parametrize("model", ["Qwen/Qwen3-32B", "openai/gpt-oss-120b"])
def test_prefill_apart_is_a_valid_stack(call: Call, tmp_path: Path, model: str, host_bytes: int) -> None:
    hardware = Hardware(model=model, accelerator="nvidia-h100", tensor=2)
    shape = Shape(prefill=1, replicas=2, host_bytes=host_bytes)
    objective = Objective(measure="completion", percent=95, limit=1.0)
    found = trial(Choice(shape=shape, times=3), [], objective)
    outcome = Outcome(
        plan=Plan(objective=objective, trials=(found,), found=(found,)),
        equipment=equipment(Limits(n_blocks=2, block_size=64), hardware=hardware),
        interrupted=False,
        most=64,
        floor=0.0,
        routing="",
        name=None,
        about={},
    )
    path = tmp_path / "stack.yaml"
    path.write_text(outcome.show("yaml"))
    checked = call("validate", path)
    assert checked.exit_code == 0, checked.output
    stack = next(yaml.safe_load_all(path.read_text()))
    split = stack["spec"]["topology"]["disaggregated"]
    assert (split["prefill"]["replicas"], split["decode"]["replicas"]) == (3, 6)


def test_files_are_written_where_asked(call: Call, tmp_path: Path) -> None:
    done = call(*DEVICES, "--slowdown", "mean=9", "--output-dir", tmp_path / "plan")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in (tmp_path / "plan").iterdir()) == [
        "attainment.png", "attainment.svg", "plan.json", "plan.txt", "stack.yaml",
    ]  # fmt: skip
    assert call("validate", tmp_path / "plan" / "stack.yaml").exit_code == 0


def test_what_no_fleet_can_do_is_said_without_a_search(call: Call) -> None:
    done = call(*TOKENS, "--programs", 4, "--completion", "p99=1s")
    assert done.exit_code == 1
    assert "no fleet can have a p99 of task completion of 1 s: alone" in done.stdout
    assert "replica:" not in done.stderr
    assert "WITHIN" not in done.stdout  # no curve of nothing


def test_too_small_a_bound_shows_the_curve(call: Call) -> None:
    done = call(*TOKENS, "--programs", 8, "--slowdown", "p95=1.001", "--max-replicas", 2)
    assert done.exit_code == 1
    assert "No answer: no fleet of up to 2 replicas" in done.stdout
    assert "2 replicas" in done.stdout
    assert call(*DEVICES, "--completion", "p99=1s", "-o", "yaml").stdout == ""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "give one objective, found 0"),
        (["--slowdown", "p95=2", "--run", "p95=2s"], "give one objective, found 2"),
        (["--slowdown", "95=2"], "--slowdown: expected pN=LIMIT such as p95=2, found '95=2'"),
        (["--completion", "p95"], "--completion: expected pN=LIMIT such as p95=2m"),
        (["--completion", "p95=2"], "--completion: '2' is not a duration"),
        (["--slowdown", "p95=2s"], "--slowdown: '2s' in 'p95=2s' is not a number"),
        (["--slowdown", "p0=2"], "--slowdown: the percentile must be"),
        (["--slowdown", "p95=0"], "--slowdown: the limit must be positive"),
        (["--slowdown", "p95=2", "--rate", "1", "--programs", "1"], "give one of the two"),
        (["--slowdown", "p95=2"], "--rate: or --programs: the programs have no arrival times"),
        (["--slowdown", "p95=2", "--rate", "0"], "--rate: must be positive"),
        (["--slowdown", "p95=2", "--programs", "15"], "--programs: means 15 live programs, and there are 14"),
        (["--slowdown", "p95=2", "--rate", "1", "--ratio", "1:2"], "--ratio: needs a model"),
        (["--slowdown", "p95=2", "--rate", "1", "--ratio", "2"], "--ratio: expected PREFILL:DECODE"),
        (["--slowdown", "p95=2", "--rate", "1", "--host-memory", "1Gi"], "--host-memory: needs a model"),
        (["--slowdown", "p95=2", "--rate", "1", "--max-replicas", "0"], "--max-replicas: must be"),
        (["--slowdown", "p95=2", "--rate", "1", "--policy", "best"], "--policy: there is no 'best'"),
        (["--slowdown", "p95=2", "--rate", "1", "--name", "My_Stack"], "--name: 'My_Stack' is no DNS label"),
        (["--slowdown", "p95=2", "--rate", "1", "-o", "yaml"], "--output: yaml is a stack: give --model"),
    ],
    ids=lambda value: " ".join(value)[-40:] or "none" if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused(call: Call, options: list[str], told: str) -> None:
    assert told in f"{call(*TOKENS, *options).exception}"
