"""processnode.supported: what the operator renders is carried out, and what is not known is named."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.processnode.supported import CARRIED_OUT, WITHOUT_EFFECT, unsupported

GOLDEN = Path(__file__).parents[1] / "golden"
SPEC: dict[str, Any] = {"containers": [{"name": "a", "image": "b"}]}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_rendered_pod_is_carried_out(path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        if manifest and manifest.get("kind") == "Deployment":
            assert unsupported(manifest["spec"]["template"]["spec"]) == []


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "unknown field": ({"frobnicate": 1}, ["spec.frobnicate"]),
    "unknown field far down": (
        {"containers": [{"name": "a"}, {"name": "b", "readinessProbe": {"carrierPigeon": {}}}]},
        ["spec.containers[1].readinessProbe.carrierPigeon"],
    ),
    "a value that is not carried out": ({"hostNetwork": True}, ["spec.hostNetwork: True"]),
    "the same field off": ({"hostNetwork": False}, []),
    "host port": (
        {"containers": [{"ports": [{"containerPort": 1, "hostPort": 1}]}]}, ["spec.containers[0].ports[0].hostPort"],
    ),
    "several": ({"hostUsers": False, "runtimeClassName": "x"}, ["spec.hostUsers", "spec.runtimeClassName"]),
    "without effect": ({"priority": 3, "tolerations": [{"key": "any"}]}, []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_would_be_ignored_is_named(case: str) -> None:
    fields, paths = CASES[case]
    assert unsupported({**SPEC, **fields}) == paths


def test_no_field_is_in_both_tables() -> None:
    assert not set(CARRIED_OUT) & set(WITHOUT_EFFECT)
