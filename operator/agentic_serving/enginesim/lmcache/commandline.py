"""The command lines of `lmcache server` and `lmcache coordinator`, from their recorded options."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["parse"]


def parse(command: str, argv: Sequence[str]) -> argparse.Namespace:
    """The options of `lmcache <command>`; a wrong command line ends the process with exit code 2, as lmcache's own."""
    options: list[dict[str, Any]] = json.loads(
        (Path(__file__).parent / "options.json").read_text(encoding="utf-8")
    )[command]
    parser = argparse.ArgumentParser(prog=f"lmcache {command}")
    for option in options:
        _add(parser, option)
    return parser.parse_args(list(argv))


def _add(parser: argparse.ArgumentParser, option: dict[str, Any]) -> None:
    names: list[str] = option["names"]
    if option["takes"] == "switch":
        negatable = len(names) == 2
        parser.add_argument(names[0], action=argparse.BooleanOptionalAction if negatable else "store_true")
    elif option["takes"] == "list":
        parser.add_argument(*names, nargs="*")
    elif option.get("repeats"):
        parser.add_argument(*names, action="append", default=[])
    else:
        parser.add_argument(*names, choices=option.get("choices"))
