"""Trace files: the format is told from the content, what is malformed is refused by file and line."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import orjson

from agentic_serving.errors import InvalidInput
from agentic_serving.workload import claude, mooncake, otel
from agentic_serving.workload.fields import Reader
from agentic_serving.workload.types import Program

__all__ = ["parse", "read"]

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_FORMATS = "Claude Code sessions (`requests`), Mooncake requests (`hash_ids`) or OTel gen_ai spans (`spans`)"


def read(path: Path) -> tuple[Program, ...]:
    """The programs of a trace file, or of every trace file in a folder, in the order of names.

    Raises:
        InvalidInput: the file cannot be read, holds no trace, or a line is malformed: the message names file and line.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(_SUFFIXES))
        if not files:
            raise InvalidInput(str(path), f"the folder holds no {', '.join(_SUFFIXES)} file")
        return tuple(program for file in files for program in read(file))
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except OSError as error:
        raise InvalidInput(str(path), error.strerror or str(error)) from None
    except (EOFError, zlib.error) as error:
        raise InvalidInput(str(path), f"is not whole gzip data: {error}") from None
    return parse(data, name=str(path))


def parse(data: bytes, *, name: str) -> tuple[Program, ...]:
    """The programs in a trace's bytes; `name` goes into messages and names what the trace shares."""
    scope = Path(name).name.split(".", 1)[0]
    programs = tuple(_programs(data, name, scope))
    if not programs:
        raise InvalidInput(name, f"is empty; expected {_FORMATS}")
    return programs


def _programs(data: bytes, name: str, scope: str) -> Iterator[Program]:
    whole = _whole(data)
    if whole is not None:
        yield _program(Reader(whole, name), scope, 0)
        return
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            yield _program(Reader(_decoded(line, f"{name}:{number}"), f"{name}:{number}"), scope, number)


def _whole(data: bytes) -> object | None:
    """The document, where the file is one JSON object over several lines."""
    head = data.lstrip()[:1]
    first, _, rest = data.strip().partition(b"\n")
    if head != b"{" or not rest or first.rstrip().endswith(b"}"):
        return None
    try:
        found: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found


def _decoded(line: bytes, where: str) -> object:
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(where, f"is not JSON: {error}") from None
    return found


def _program(entry: Reader, scope: str, number: int) -> Program:
    if "requests" in entry.value:
        return claude.program(entry)
    if "hash_ids" in entry.value:
        return mooncake.program(entry, scope=scope, number=number)
    if "spans" in entry.value:
        return otel.program(entry)
    raise InvalidInput(entry.where, f"is none of the known formats: {_FORMATS}")
