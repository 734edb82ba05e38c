"""Every directory in examples/ becomes Ready under the operator's own ServiceAccount, as `render` says it would.

Ready means here that kwok's pods are: nothing runs in them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentic_serving import names
from agentic_serving.api.validate import KINDS
from agentic_serving.cluster import kinds
from agentic_serving.cluster.diff import needs_apply
from tests.e2e.apiclient import Manifest
from tests.e2e.demo.claims import claims, volumes
from tests.e2e.operator_process import ROOT, USER
from tests.e2e.world import World, edited

EXAMPLES = sorted(p for p in (ROOT / "examples").iterdir() if p.is_dir())


def objects_of(example: Path) -> list[Manifest]:
    texts = [path.read_text(encoding="utf-8") for path in sorted(example.glob("*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def rendered(example: Path, namespace: str) -> dict[str, Manifest]:
    """What `agentic-serving render` prints, by Kind/name."""
    command = [sys.executable, "-m", "agentic_serving", "render", str(example), "-n", namespace, "-o", "json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "operator")}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    documents: Any = json.loads(done.stdout)
    items = documents["items"] if isinstance(documents, dict) else documents
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in items}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_becomes_ready_as_rendered(world: World, example: Path) -> None:
    mark = world.cluster.mark()
    own = [obj for obj in objects_of(example) if obj["kind"] in KINDS]
    volumes(world.cluster, world.namespace, claims(own))
    world.apply(*own)
    for obj in own:
        world.ready(obj["metadata"]["name"], kinds.of(obj), timeout_s=90)
    stacks = [obj["metadata"]["name"] for obj in own if obj["kind"] == kinds.STACK.kind]
    live = {key: child for name in stacks for key, child in world.children(name).items()}
    wanted = rendered(example, world.namespace)
    assert live.keys() == wanted.keys()
    for key, child in live.items():
        assert _difference(wanted[key], child) is None, f"{key} is not what render prints"
    _assert_own_rights_sufficed(world, mark)


def _difference(wanted: Manifest, live: Manifest) -> str | None:
    """What the operator owns in the object and `render` does not print, or the other way round.

    `render` knows no uid: the reference and the labels that hold it are the operator's only addition.
    """
    (owner,) = live["metadata"]["ownerReferences"]
    changes: dict[str, object] = {"metadata.ownerReferences": [owner]}
    for at in ("metadata", "spec.template.metadata"):
        labels = _at(wanted, f"{at}.labels")
        if labels is not None:
            changes[f"{at}.labels"] = {**labels, names.OWNER_UID_LABEL: owner["uid"]}
    return needs_apply(edited(wanted, changes), live)


def _at(obj: Manifest, path: str) -> dict[str, str] | None:
    found: Any = obj
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return dict(found) if isinstance(found, dict) else None


def _assert_own_rights_sufficed(world: World, mark: int) -> None:
    asked = [e for e in world.cluster.audit(mark) if e.user == USER and e.namespace in (world.namespace, "")]
    assert [str(e) for e in asked if e.code in (401, 403)] == []
