"""Reading engine arguments as the engine's own parser does, and checking them against its recorded options.

vLLM's parser (vllm/utils/argparse_utils.py) turns underscores of names into dashes, takes `--name value` and
`--name=value`, `--no-name` of switches, short names (`-tp 4`) and dotted parts of JSON options
(`--kv-transfer-config.kv_role=kv_both`). Its abbreviations (`--tensor-par`) are refused here: what they mean
changes when an option is added.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentic_serving.api.findings import Finding
from agentic_serving.engines.tables import KnownOption, VersionTable

__all__ = ["Argument", "check", "parse"]


# -O3 and -O=3 stand for --optimization-level 3.
_OPTIMIZATION = re.compile(r"-O=?[0-9a-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One option as somebody wrote it, with its values."""

    index: int  # of the element that names it
    last: int  # of its last value; equal to index for `--name=value` and switches
    spelling: str  # what was written before the value
    name: str  # the canonical name if known, else the spelling with dashes
    values: tuple[str, ...]
    option: KnownOption | None  # None: unknown
    problem: str | None = None  # what is malformed, with what to do

    @property
    def value(self) -> str | None:
        return self.values[0] if self.values else None

    @property
    def negated(self) -> bool:
        """Whether it turns the switch that its canonical name turns on, off."""
        if self.key.startswith("--no-"):
            return True
        return self.key.startswith("--disable-") != self.name.startswith("--disable-")

    @property
    def key(self) -> str:
        """The spelling without a dotted part, with dashes."""
        return _normalise(self.spelling)


def _normalise(spelling: str) -> str:
    name = spelling.split(".", 1)[0]
    return name.replace("_", "-") if name.startswith("--") else name


def parse(args: Sequence[str], table: VersionTable) -> list[Argument]:
    """The options in `args`, in order; elements that belong to none are reported as malformed ones."""
    found: list[Argument] = []
    index = 0
    while index < len(args):
        argument = _parse_one(args, index, table)
        found.append(argument)
        index = argument.last + 1
    return found


def _parse_one(args: Sequence[str], index: int, table: VersionTable) -> Argument:
    text = args[index]
    spelling, equals, inline = text.partition("=")
    if not text.startswith("-") or text in {"-", "--"}:
        return _stray(text, index)
    if any(character.isspace() for character in spelling):
        problem = "holds a space before any `=`: write `--name=value`, or name and value as two elements"
        return _argument(index, index, text, None, (), problem)
    if _OPTIMIZATION.fullmatch(text):
        level = text[2:].removeprefix("=")
        known = table.options.get("--optimization-level")
        return _argument(index, index, "--optimization-level", known, (level,), None)
    name = "--optimization-level" if text == "-O" else _normalise(spelling)
    option = table.options.get(name)
    if equals:
        return _argument(index, index, spelling, option, (inline,), _inline_problem(option, spelling))
    last = _end_of_values(args, index, option.takes if option else "optional")
    values = tuple(args[index + 1 : last + 1])
    return _argument(index, last, spelling, option, values, _apart_problem(option, spelling, values))


def _inline_problem(option: KnownOption | None, spelling: str) -> str | None:
    """What is wrong with `--name=value`."""
    if option is not None and option.takes == "switch":
        return f"{option.name} takes no value"
    return _dotted_problem(option, spelling)


def _apart_problem(option: KnownOption | None, spelling: str, values: tuple[str, ...]) -> str | None:
    """What is wrong with `--name` and what follows it."""
    if option is not None and option.takes in {"value", "list"} and not values:
        return f"{option.name} needs a value"
    return _dotted_problem(option, spelling)


def _dotted_problem(option: KnownOption | None, spelling: str) -> str | None:
    if option is None or option.is_json or "." not in spelling:
        return None
    return f"{option.name} takes no JSON, so no dotted part"


def _end_of_values(args: Sequence[str], index: int, takes: str) -> int:
    """Index of the last element that is a value of the option at `index`."""
    most = {"switch": 0, "value": 1, "optional": 1, "list": len(args)}[takes]
    last = index
    while last + 1 < len(args) and last - index < most and not _is_name(args[last + 1]):
        last += 1
    return last


def _is_name(text: str) -> bool:
    """Whether argparse takes an element for an option's name: a dash, unless it is a negative number."""
    return text.startswith("-") and len(text) > 1 and not text[1:].replace(".", "", 1).isdigit()


def _stray(text: str, index: int) -> Argument:
    problem = f"`{text}` belongs to no option: write `--name=value`"
    return _argument(index, index, text, None, (), problem)


def _argument(
    index: int,
    last: int,
    spelling: str,
    option: KnownOption | None,
    values: tuple[str, ...],
    problem: str | None,
) -> Argument:
    name = option.name if option else _normalise(spelling)
    return Argument(
        index=index, last=last, spelling=spelling, name=name, values=values, option=option, problem=problem
    )


def check(
    args: Sequence[str], table: VersionTable, *, path: str = "spec.engine.args", skip: Iterable[str] = ()
) -> list[Finding]:
    """What the engine would refuse in `args`, all at once: unknown, malformed, not among the choices, twice.

    Args:
        skip: canonical names that somebody else reports.
    """
    skipped = set(skip)
    if any(a.name == "--tool-parser-plugin" for a in parse(args, table)):
        skipped.add("--tool-call-parser")  # the plugin brings names of its own
    arguments = [a for a in parse(args, table) if a.name not in skipped]
    findings = [finding for a in arguments for finding in _findings(a, table, path)]
    return findings + _duplicates(arguments, path)


def _findings(argument: Argument, table: VersionTable, path: str) -> list[Finding]:
    at = f"{path}[{argument.index}]"
    if argument.problem is not None:
        return [Finding(path=at, reason="MalformedArgument", message=argument.problem)]
    if argument.option is None:
        return [Finding(path=at, reason="UnknownArgument", message=_unknown(argument, table))]
    choices = argument.option.choices
    wrong = [value for value in argument.values if choices and value not in choices]
    if wrong and "." not in argument.spelling:
        message = f"{argument.name} is one of {', '.join(choices or ())}, not {wrong[0]}"
        return [Finding(path=at, reason="InvalidArgument", message=message)]
    return _parser_findings(argument, table, at)


def _parser_findings(argument: Argument, table: VersionTable, at: str) -> list[Finding]:
    """The engine's command line accepts any parser name and its start fails later."""
    known = {"--tool-call-parser": table.tool_parsers, "--reasoning-parser": table.reasoning_parsers}
    names = known.get(argument.name)
    if names is None or argument.value in names:
        return []
    near = difflib.get_close_matches(str(argument.value), names, n=3)
    hint = f": did you mean {' or '.join(near)}?" if near else f": it is one of {', '.join(names)}"
    message = f"vLLM {table.version} has no such parser for {argument.name}{hint}"
    return [Finding(path=at, reason="UnknownParser", message=message)]


def _unknown(argument: Argument, table: VersionTable) -> str:
    names = sorted({option.name for option in table.options.values()})
    longer = [name for name in names if name.startswith(argument.key) and len(argument.key) > 4]
    near = longer[:3] or difflib.get_close_matches(argument.key, names, n=3, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}?" if near else "see `vllm serve --help=all`"
    return f"vLLM {table.version} has no option {argument.key}: {hint}"


def _duplicates(arguments: Sequence[Argument], path: str) -> list[Finding]:
    findings = []
    first: dict[str, int] = {}
    for argument in arguments:
        option = argument.option
        if option is None or option.repeats or "." in argument.spelling:
            continue
        if argument.name in first:
            message = f"{argument.name} is there twice, first at {path}[{first[argument.name]}]: keep one"
            findings.append(
                Finding(path=f"{path}[{argument.index}]", reason="DuplicateArgument", message=message)
            )
        first.setdefault(argument.name, argument.index)
    return findings
