"""Objects from files, directories and standard input, with the place each came from.

Accepts YAML with several documents, JSON and `kind: List`. Documents of other kinds are passed over and
counted, so that a whole application's folder can be given.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import yaml

from agentic_serving.errors import InvalidInput
from agentic_serving.names import GROUP

__all__ = ["Document", "Loaded", "load"]

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
#: kubectl reads the same with `-f -`.
_STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One object of ours and where it was read."""

    source: str  # "stack.yaml#2": file and number of the document
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.body.get("kind", ""))

    @property
    def label(self) -> str:
        metadata = self.body.get("metadata")
        name = metadata.get("name", "?") if isinstance(metadata, dict) else "?"
        return f"{self.kind}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """All that was read: our objects in reading order, and how many others were passed over."""

    documents: tuple[Document, ...]
    others: int


def load(paths: Iterable[str], *, stdin: TextIO | None = None) -> Loaded:
    """Read every path: a file, a directory (all its YAML and JSON, recursively) or `-`.

    Raises:
        InvalidInput: a path does not exist, cannot be read or is not YAML; the field is the path.
    """
    documents: list[Document] = []
    others = 0
    for source, text in _texts(paths, stdin or sys.stdin):
        for number, body in enumerate(_parse(source, text), start=1):
            if _is_ours(body):
                documents.append(Document(source=f"{source}#{number}", body=body))
            else:
                others += 1
    return Loaded(documents=tuple(documents), others=others)


def _texts(paths: Iterable[str], stdin: TextIO) -> Iterator[tuple[str, str]]:
    for path in paths:
        if path == _STDIN:
            yield "stdin", stdin.read()
            continue
        for file in _files(Path(path)):
            try:
                yield str(file), file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidInput(str(file), f"cannot be read: {error}") from error


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
        if not found:
            raise InvalidInput(str(path), "holds no .yaml, .yml or .json file")
        return found
    if not path.exists():
        raise InvalidInput(str(path), "does not exist")
    return [path]


def _parse(source: str, text: str) -> list[dict[str, Any]]:
    try:
        parsed = [body for body in yaml.safe_load_all(text) if body is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(source, f"is not valid YAML: {error}") from error
    bodies: list[dict[str, Any]] = []
    for body in parsed:
        if not isinstance(body, dict):
            raise InvalidInput(source, f"holds a {type(body).__name__} where an object was expected")
        items = body.get("items")
        if body.get("kind", "").endswith("List") and isinstance(items, list):
            bodies.extend(item for item in items if isinstance(item, dict))
        else:
            bodies.append(body)
    return bodies


def _is_ours(body: dict[str, Any]) -> bool:
    return str(body.get("apiVersion", "")).startswith(f"{GROUP}/")
