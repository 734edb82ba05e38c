"""The router's files inside the golden manifests, each different one once."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

__all__ = ["golden_files"]

GOLDEN = Path(__file__).parents[2] / "unit" / "golden"


@cache
def golden_files(key: str) -> dict[str, dict[str, Any]]:
    """Parsed `key` of every ConfigMap that has it, by `<case>-<preset>` of the first golden file that holds it."""
    found: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for file in sorted(GOLDEN.glob("*/*.yaml")):
        for manifest in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader):
            text = _text(manifest, key)
            digest = hashlib.sha256(text.encode()).hexdigest()
            if text and digest not in seen:
                seen.add(digest)
                found[f"{file.parent.name}-{file.stem}"] = yaml.load(text, Loader=yaml.CSafeLoader)
    return found


def _text(manifest: Any, key: str) -> str:  # noqa: ANN401 - any document of a YAML file
    if not isinstance(manifest, dict) or manifest.get("kind") != "ConfigMap":
        return ""
    return str(manifest.get("data", {}).get(key, ""))
