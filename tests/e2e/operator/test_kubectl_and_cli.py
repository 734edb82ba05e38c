"""What people use: kubectl's columns, short names and waits, the plugin, and the command line against a cluster."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import Manifest
from tests.e2e.operator_process import ROOT
from tests.e2e.stacks import aggregated, policy, program
from tests.e2e.world import World, edited

STACK = aggregated("chat", replicas=2, policy="host")
OBJECTS = [STACK, policy("host"), program("coder", objective={"priority": 5})]


@pytest.fixture
def running(world: World) -> World:
    """A stack with a policy and a program, Ready."""
    world.apply(*OBJECTS)
    world.ready("chat")
    world.ready("coder", kinds.PROGRAM)
    world.ready("host", kinds.POLICY)
    return world


def run_cli(
    world: World, *args: str, stdin: str | None = None, program: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """The command line as a process, with the administrator's kubeconfig."""
    command = [*(program or (sys.executable, "-m", "agentic_serving")), *args]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "operator"),
        "KUBECONFIG": str(world.cluster.kubeconfig),
    }
    return subprocess.run(command, env=environment, input=stdin, check=False, capture_output=True, text=True)


def files_of(objects: list[Manifest], folder: Path) -> Path:
    """The objects in a file, as a user would have them."""
    path = folder / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    return path


def columns(table: str) -> dict[str, str]:
    """The only row of a kubectl table, by header."""
    header, row = table.splitlines()
    starts = [header.index(word) for word in header.split()]
    ends = [*starts[1:], None]
    return {header[a:b].strip(): row[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def test_tables_and_short_names(running: World) -> None:
    stack = columns(running.kubectl("get", "astack"))
    assert stack["NAME"] == "chat"
    assert (stack["READY"], stack["REASON"]) == ("True", "Ready")
    assert (stack["MODEL"], stack["PRESET"], stack["REPLICAS"]) == ("qwen3-32b", "nvidia-h200", "2/2")
    assert columns(running.kubectl("get", "aprog"))["READY"] == "True"
    assert columns(running.kubectl("get", "kvtp"))["READY"] == "True"
    everything = running.kubectl("get", "agentic", "-o", "name").split()
    assert {name.split("/")[1] for name in everything} == {"chat", "coder", "host"}


def test_kubectl_waits_for_what_it_is_told(running: World) -> None:
    """`kubectl wait` looks at the condition and the generation it is about."""
    for name in ("astack/chat", "aprog/coder", "kvtp/host"):
        running.kubectl("wait", name, "--for=condition=Ready", "--timeout=30s")
    running.apply(edited(STACK, {"spec.accelerator.preset": "abacus"}))
    running.kubectl("wait", "astack/chat", "--for=condition=Accepted=False", "--timeout=30s")
    running.kubectl("wait", "astack/chat", "--for=condition=Stalled", "--timeout=30s")
    assert columns(running.kubectl("get", "astack"))["REASON"] == "UnknownPreset"


def test_kubectl_explains_every_field(running: World) -> None:
    # It asks the server anew, so that `explain` does not go by what kubectl remembers of an earlier discovery.
    assert "astack" in running.cluster.kubectl("api-resources", "--api-group=agentic-serving.dev")
    told = running.cluster.kubectl("explain", "astack.spec.topology.disaggregated.uncachedTokenThreshold")
    assert "prefilled where they decode" in " ".join(told.split())


def test_the_plugin_is_found_by_its_name(running: World, tmp_path: Path) -> None:
    """kubectl runs a program of that name from PATH; the package installs one."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts["kubectl-agentic"] == scripts["agentic-serving"]
    plugin = tmp_path / "kubectl-agentic"
    plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m agentic_serving "$@"\n', encoding="utf-8")
    plugin.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "operator"),
        "KUBECONFIG": str(running.cluster.kubeconfig),
    }
    command = [str(running.cluster.kubectl_path), "agentic", "diff", str(files_of(OBJECTS, tmp_path))]
    command += ["-n", running.namespace]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_diff_is_empty_at_rest_and_tells_an_edit(running: World, tmp_path: Path) -> None:
    """0 at rest; 1 with what would change, what would come and what would go; nothing is written."""
    mark = running.cluster.mark()
    rest = run_cli(running, "diff", str(files_of(OBJECTS, tmp_path)), "-n", running.namespace)
    assert (rest.returncode, rest.stdout) == (0, ""), rest.stderr
    changed = [edited(STACK, {"spec.topology.aggregated.replicas": 1, "spec.model.contextLength": 4096})]
    told = run_cli(running, "diff", str(files_of([*changed, OBJECTS[1]], tmp_path)), "-n", running.namespace)
    assert told.returncode == 1
    assert "+        - --max-model-len=4096" in told.stdout
    assert "-  replicas: 2" in told.stdout
    assert "--- live/PodDisruptionBudget/chat-engine" in told.stdout
    assert "--- live/InferenceObjective/chat.coder" in told.stdout  # the files no longer have the program
    written = [
        w for w in running.cluster.writes(since=mark, user="admin") if w.namespace == running.namespace
    ]
    assert written == []


def test_diff_of_a_broken_file_is_an_error(running: World, tmp_path: Path) -> None:
    broken = [edited(STACK, {"spec.accelerator.preset": "abacus"}), OBJECTS[1]]
    told = run_cli(running, "diff", str(files_of(broken, tmp_path)), "-n", running.namespace)
    assert told.returncode == 2
    assert "spec.accelerator.preset" in told.stderr


def test_what_render_prints_can_be_applied(world: World, tmp_path: Path) -> None:
    """`agentic-serving render ... | kubectl apply --dry-run=server`: the API server takes every object."""
    done = run_cli(world, "render", str(files_of(OBJECTS, tmp_path)), "-n", world.namespace)
    assert done.returncode == 0, done.stderr
    taken = world.kubectl("apply", "--dry-run=server", "-f", "-", stdin=done.stdout).splitlines()
    assert len(taken) == done.stdout.count("\nkind: ") + done.stdout.startswith("kind: ")
    assert all(line.endswith("(server dry run)") for line in taken)
