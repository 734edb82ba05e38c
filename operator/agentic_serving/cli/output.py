"""How results are printed: text for people, YAML and JSON for programs. Results go to stdout, the rest to stderr."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from agentic_serving import yamltext
from agentic_serving.cli.bundle import Located

__all__ = ["FORMATS", "data", "documents", "located", "located_as_data", "table"]

FORMATS = ("text", "yaml", "json")


def data(value: object, output: str) -> str:
    """Any plain value as JSON or YAML, keys in the order given."""
    if output == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return yamltext.dump(value).rstrip("\n")


def documents(bodies: Sequence[dict[str, Any]], output: str) -> str:
    """Kubernetes objects: YAML documents, or one JSON List as kubectl prints it."""
    if output == "json":
        return data({"apiVersion": "v1", "kind": "List", "items": list(bodies)}, "json")
    return "\n---\n".join(data(body, "yaml") for body in bodies)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as kubectl prints them: padded with three spaces, the header in capitals."""
    lines = [[h.upper() for h in header], *[[str(c) for c in row] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def located(item: Located) -> str:
    """One finding on one line: where, which object, which field, what to do."""
    severity = click.style(
        item.finding.severity.lower(), fg="red" if item.finding.severity == "Error" else "yellow"
    )
    return f"{item.source}: {item.object}: {severity}: {item.finding} [{item.finding.reason}]"


def located_as_data(items: Iterable[Located]) -> list[dict[str, str]]:
    return [
        {
            "source": item.source,
            "object": item.object,
            "path": item.finding.path,
            "severity": item.finding.severity,
            "reason": item.finding.reason,
            "message": item.finding.message,
        }
        for item in items
    ]
