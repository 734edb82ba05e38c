"""Writes what is generated from the types: `crds/`, `docs/api.md`, `docs/conditions.md`, `docs/schemas/`.

    python -m agentic_serving.api.generate [--check] [ROOT]

With `--check` nothing is written: stale files are named and the exit status is 1. ROOT is the checkout, the
current folder by default.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from agentic_serving import yamltext
from agentic_serving.api.base import ApiObject
from agentic_serving.api.crd import KIND_INFOS, crd, object_schema
from agentic_serving.api.reference import api_reference, conditions_reference
from agentic_serving.names import API_VERSION

__all__ = ["editor_schema", "generated_files", "main", "stale_files"]

_SOURCE = "operator/agentic_serving/api"


def generated_files() -> dict[str, str]:
    """Every generated file: path below the checkout, and text."""
    files = {
        "docs/api.md": api_reference(),
        "docs/conditions.md": conditions_reference(),
    }
    for info in KIND_INFOS.values():
        definition = crd(info.model)
        files[f"crds/{definition['metadata']['name']}.yaml"] = _yaml(definition)
        files[f"docs/schemas/{info.kind.lower()}.json"] = (
            json.dumps(editor_schema(info.model), indent=2, ensure_ascii=False) + "\n"
        )
    return files


def editor_schema(model: type[ApiObject]) -> dict[str, Any]:
    """JSON Schema for editors: as the CRD's, but closed, so that a misspelt field is underlined."""
    schema = _closed(object_schema(model))
    schema["properties"] |= {
        "apiVersion": {"const": API_VERSION},
        "kind": {"const": model.__name__},
        "metadata": {"type": "object"},
    }
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": model.__name__, **schema}


def stale_files(root: Path) -> list[str]:
    """Files below `root` that differ from what would be generated."""
    return [name for name, text in generated_files().items() if _read(root / name) != text]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m agentic_serving.api.generate", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; name stale files and exit with 1"
    )
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the checkout")
    options = parser.parse_args(arguments)
    if not (options.root / _SOURCE).is_dir():
        parser.error(f"{options.root.resolve()} is not a checkout: it has no {_SOURCE}")
    stale = stale_files(options.root)
    files = generated_files()
    for name in stale:
        sys.stdout.write(f"{'stale' if options.check else 'wrote'}: {name}\n")
        if not options.check:
            (options.root / name).parent.mkdir(parents=True, exist_ok=True)
            (options.root / name).write_text(files[name], encoding="utf-8")
    return 1 if options.check and stale else 0


def _yaml(definition: dict[str, Any]) -> str:
    head = f"# Generated from {_SOURCE} by `make generate`. Do not edit.\n"
    return head + yamltext.dump(definition)


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy without Kubernetes' extensions in which objects take no other fields than those named."""
    closed = {k: v for k, v in schema.items() if not k.startswith("x-kubernetes-")}
    if "properties" in closed:
        closed["properties"] = {k: _closed(v) for k, v in closed["properties"].items()}
        closed["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(closed.get(key), dict):
            closed[key] = _closed(closed[key])
    return closed


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
