"""The commands as users call them: output, exit codes, and that bad input is one line and not a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from agentic_serving.cli.main import COMMANDS, cli

from .conftest import STACK, Call

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(p.name for p in (ROOT / "examples").iterdir() if p.is_dir())


def edited(**changes: Any) -> str:
    body = yaml.safe_load(STACK)
    body["spec"].update(changes)
    return yaml.safe_dump(body)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_validates(call: Call, example: str) -> None:
    result = call("validate", ROOT / "examples" / example)
    assert result.exit_code == 0, result.output
    assert " 0 errors" in result.stdout


def test_render_prints_objects_that_kubectl_reads(call: Call, stack_file: Path) -> None:
    as_yaml = call("render", stack_file)
    as_json = call("render", stack_file, "-o", "json")
    documents = list(yaml.safe_load_all(as_yaml.stdout))
    assert as_yaml.exit_code == as_json.exit_code == 0
    assert documents == json.loads(as_json.stdout)["items"]
    assert {"Deployment", "Service", "InferencePool"} <= {d["kind"] for d in documents}
    assert not any("ownerReferences" in d["metadata"] for d in documents)


def test_render_reads_standard_input_and_takes_the_namespace(call: Call) -> None:
    result = call("render", "-", "-n", "team-a", stdin=STACK)
    assert {d["metadata"]["namespace"] for d in yaml.safe_load_all(result.stdout)} == {"team-a"}


def test_render_as_text_is_a_table(call: Call, stack_file: Path) -> None:
    lines = call("render", stack_file, "-o", "text").stdout.splitlines()
    assert lines[0].split() == ["STACK", "KIND", "NAME", "API", "VERSION"]
    assert any(line.split()[:3] == ["chat", "Deployment", "chat-engine"] for line in lines)


@pytest.mark.parametrize(
    ("text", "reason", "says"),
    [
        (edited(accelerator={"preset": "nvidia-h20x"}), "UnknownPreset", "nvidia-h200"),
        (edited(kvTierPolicyRef={"name": "none"}), "PolicyNotFound", "none"),
        (edited(topology={}), "InvalidSpec", "exactly one topology"),
        (edited(engine={"args": ["--port=9"]}), "ArgumentOwned", "--port"),
        (edited(engine={"argz": []}), "UnknownField", "args"),
        (edited(router={"endpointPicker": {"release": "llm-d-9"}}), "UnknownRelease", "llm-d-0.10"),
        (
            "apiVersion: agentic-serving.dev/v1\nkind: AgenticServingStack\nmetadata: {name: x}",
            "InvalidSpec",
            "v1alpha1",
        ),
    ],
    ids=["preset", "policy", "topology", "argument", "unknown field", "release", "version"],
)
def test_validate_says_what_is_wrong_and_exits_with_1(call: Call, text: str, reason: str, says: str) -> None:
    result = call("validate", "-", stdin=text)
    assert result.exit_code == 1
    assert f"[{reason}]" in result.stdout
    assert says in result.stdout
    found = json.loads(call("validate", "-", "-o", "json", stdin=text).stdout)
    assert reason in {f["reason"] for f in found if f["severity"] == "Error"}


def test_a_stack_with_errors_renders_nothing(call: Call) -> None:
    result = call("render", "-", stdin=edited(accelerator={"preset": "nvidia-h20x"}))
    assert result.exit_code == 1
    assert result.stdout.strip() == ""
    assert "UnknownPreset" in result.stderr


def test_two_objects_of_one_name_are_an_error(call: Call) -> None:
    result = call("validate", "-", stdin=f"{STACK}---\n{STACK}")
    assert result.exit_code == 1
    assert "also defined in stdin#1" in result.stdout


def test_a_program_whose_stack_is_elsewhere_is_a_warning(call: Call) -> None:
    program = "apiVersion: agentic-serving.dev/v1alpha1\nkind: AgentProgram\nmetadata: {name: p}\nspec: {agents: [{name: a, stackRef: {name: far}}]}"
    result = call("validate", "-", stdin=program)
    assert result.exit_code == 0
    assert "spec.agents[0].stackRef.name" in result.stdout


def test_explain_gives_each_option_a_rule_with_a_source(call: Call, stack_file: Path) -> None:
    items = json.loads(call("explain", stack_file, "-o", "json").stdout)
    options = {i["item"].split("=")[0] for i in items if i["object"] == "Deployment/chat-engine"}
    rendered = list(yaml.safe_load_all(call("render", stack_file).stdout))
    engine = next(d for d in rendered if d["metadata"]["name"] == "chat-engine" and d["kind"] == "Deployment")
    args = engine["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {a.split("=")[0] for a in args if a.startswith("--")} <= options
    assert all(i["reason"] and i["source"] for i in items)
    assert {i["object"] for i in items} >= {f"{d['kind']}/{d['metadata']['name']}" for d in rendered}


def test_explain_only_narrows_the_list(call: Call, stack_file: Path) -> None:
    text = call("explain", stack_file, "--only", "shutdown-timeout").stdout
    assert "--shutdown-timeout=" in text
    assert "--block-size" not in text


@pytest.mark.parametrize(
    ("word", "name"), [("presets", "nvidia-h200"), ("models", "Qwen/Qwen3-32B"), ("releases", "gie-1.5")]
)
def test_explain_lists_the_built_in_tables(call: Call, word: str, name: str) -> None:
    assert name in call("explain", word).stdout
    assert name in {row["name"] for row in json.loads(call("explain", word, "-o", "json").stdout)}


def test_model_inspect_prints_what_goes_into_a_stack(call: Call, tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = call("model", "inspect", tmp_path, "-o", "yaml")
    # 2 x 32 layers x 8 heads x 128 x 2 bytes: Llama 3.1 8B.
    assert yaml.safe_load(result.stdout)["spec"]["model"]["profile"] == {
        "kvBytesPerToken": 131072,
        "kvHeads": 8,
    }
    halved = call("model", "inspect", tmp_path, "-o", "yaml", "--kv-cache-dtype", "fp8")
    assert yaml.safe_load(halved.stdout)["spec"]["model"]["profile"]["kvBytesPerToken"] == 65536


def test_model_inspect_says_when_it_cannot_tell(call: Call, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["NobodyKnowsForCausalLM"]}')
    result = call("model", "inspect", tmp_path)
    assert result.exit_code == 1
    assert "cannot tell" in result.stderr


@pytest.mark.parametrize(
    "command",
    [[name] for name in sorted(cli.commands)] + [["model", "inspect"], ["operator", "run"]],
    ids=" ".join,
)
def test_every_command_has_help(call: Call, command: list[str]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 3


@pytest.mark.parametrize(
    "args", [["render", "/nowhere.yaml"], ["validate", "-"], ["model", "inspect", "/nowhere"]], ids=str
)
def test_what_cannot_be_read_is_one_line_and_exit_code_2(args: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agentic_serving", *args],
        input="kind: Other",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
