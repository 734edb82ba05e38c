"""How tests call the command line: as a user does, with files."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agentic_serving.cli.main import cli

Call = Callable[..., Result]

STACK = """\
apiVersion: agentic-serving.dev/v1alpha1
kind: AgenticServingStack
metadata: {name: chat}
spec:
  model:
    name: qwen3-32b
    source: {huggingFace: {repository: Qwen/Qwen3-32B}}
  accelerator: {preset: nvidia-h200}
  topology: {aggregated: {replicas: 2}}
"""


@pytest.fixture
def call() -> Call:
    """Run a command line; the result has exit_code, stdout and stderr."""
    runner = CliRunner()

    def run(*args: object, stdin: str | None = None) -> Result:
        return runner.invoke(cli, [str(a) for a in args], input=stdin)

    return run


@pytest.fixture
def stack_file(tmp_path: Path) -> Path:
    """A good stack in a file."""
    path = tmp_path / "stack.yaml"
    path.write_text(STACK)
    return path
