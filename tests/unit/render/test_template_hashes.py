"""render: the pod templates of the examples, as hashes. One that changes restarts pods of everybody who upgrades.

Before the first release there are no older operators to upgrade from, so this guards the templates themselves:
`make golden` rewrites the file, and the review of its diff decides whether the restart is worth it.
"""

import json
from pathlib import Path

import pytest

from agentic_serving.render.manifest import canonical_hash
from agentic_serving.render.plan import render
from tests.unit.render.builders import EXAMPLE_NAMES, example_inputs

FILE = Path(__file__).parents[1] / "golden" / "pod-template-hashes.json"


def hashes(uid: str) -> dict[str, str]:
    """Of each Deployment of each example, whose stack has this uid."""
    return {
        f"{example}/{manifest.key[2]}": canonical_hash(_without_owner(manifest.body["spec"]["template"], uid))
        for example in EXAMPLE_NAMES
        for manifest in render(example_inputs(example, uid=uid)).manifests
        if manifest.body["kind"] == "Deployment"
    }


def _without_owner(template: object, uid: str) -> object:
    return json.loads(json.dumps(template).replace(uid, "UID"))


def test_check_17_an_upgrade_restarts_no_pods(*, update_golden: bool) -> None:
    found = hashes("8f0e3c1a-0000-4000-8000-000000000001")
    if update_golden:
        FILE.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    changed = {
        key for key, value in json.loads(FILE.read_text(encoding="utf-8")).items() if found.get(key) != value
    }
    assert changed == set(), "these pods restart on an upgrade; if that is meant, run `make golden`"
    assert found == json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("uid", ["a" * 36, "b" * 36])
def test_check_17_the_hash_of_a_template_depends_on_no_uid(uid: str) -> None:
    assert hashes(uid) == hashes("8f0e3c1a-0000-4000-8000-000000000001")
