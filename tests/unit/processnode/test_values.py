"""Pure parts of the process node: expansion, variables, quantities, files, identities."""

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.e2e.processnode import atomic
from tests.e2e.processnode.env import PodContext, environment, service_variables
from tests.e2e.processnode.expand import expand
from tests.e2e.processnode.files import File, files_of
from tests.e2e.processnode.lookup import Missing, field_text, quantity, resource_text
from tests.e2e.processnode.security import Refused, identity

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": 'say "x"'}},
    "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}}]},
}
OBJECTS = {
    ("configmaps", "cm"): {"data": {"k": "v"}, "binaryData": {"b": base64.b64encode(b"\xff").decode()}},
    ("secrets", "s"): {"data": {"k": base64.b64encode(b"hidden").decode()}},
}
CONTEXT = PodContext(
    pod=POD, address={"podIP": "10.0.0.9", "hostIP": "10.0.0.1"}, capacity={"cpu": "8", "memory": "16Gi"},
    find=lambda plural, name: OBJECTS.get((plural, name)),
)  # fmt: skip

# Cases of k8s.io/kubernetes third_party/forked/golang/expansion/expand_test.go, with VAR_A=A.
EXPANSIONS = {
    "$(VAR_A)": "A", "___$(VAR_A)___": "___A___", "$(NOBODY)": "$(NOBODY)", "$$(VAR_A)": "$(VAR_A)",
    "$$$(VAR_A)": "$A", "$VAR_A": "$VAR_A", "$(VAR_A": "$(VAR_A", "foo$$": "foo$", "$()": "$()", "": "",
}  # fmt: skip


@pytest.mark.parametrize("text", EXPANSIONS)
def test_references_expand_as_kubernetes_expands_them(text: str) -> None:
    assert expand(text, {"VAR_A": "A"}) == EXPANSIONS[text]


@given(st.text().filter(lambda text: "$" not in text))
def test_text_without_a_dollar_stays(text: str) -> None:
    assert expand(text, {"A": "B"}) == text


QUANTITIES = {"1": "1", "500m": "0.5", "1Ki": "1024", "1k": "1000", "1.5Gi": "1610612736", "1e3": "1000"}


@pytest.mark.parametrize("text", QUANTITIES)
def test_quantities(text: str) -> None:
    assert quantity(text) == quantity(QUANTITIES[text])


RESOURCES = {
    "rounded up": ({"resource": "limits.cpu"}, "2"),
    "in parts": ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
    "a request that is not given is the limit": ({"resource": "requests.memory", "divisor": "1Mi"}, "1024"),
    "a limit that is not given is the node's": ({"resource": "limits.ephemeral-storage"}, "0"),
}


@pytest.mark.parametrize("case", RESOURCES)
def test_resource_fields(case: str) -> None:
    selector, text = RESOURCES[case]
    assert resource_text(POD, "c", selector, CONTEXT.capacity) == text


def test_all_labels_are_quoted_and_sorted() -> None:
    assert field_text(POD, "metadata.labels", {}) == 'a="say \\"x\\""\nb="2"'


def test_a_field_that_is_none_is_refused() -> None:
    with pytest.raises(Missing, match="color"):
        field_text(POD, "spec.color", {})


def test_later_variables_override_earlier_ones() -> None:
    container = {
        "name": "c",
        "envFrom": [{"configMapRef": {"name": "cm"}}],
        "env": [{"name": "k", "value": "own"}, {"name": "copy", "value": "$(k) $(HOST)"}],
    }
    made = environment(container, CONTEXT, image={"k": "image", "HOST": "image"}, services={"HOST": "h"})
    assert made == {"HOST": "h", "k": "own", "copy": "own h"}


def test_a_missing_reference_is_named() -> None:
    reference = {"secretKeyRef": {"name": "s", "key": "absent"}}
    container = {"name": "c", "env": [{"name": "x", "valueFrom": reference}]}
    with pytest.raises(Missing, match="absent"):
        environment(container, CONTEXT, image={}, services={})


def test_services_are_linked_only_where_the_pod_wants_it() -> None:
    service = {
        "metadata": {"name": "my-db"},
        "spec": {"clusterIP": "10.1.1.1", "ports": [{"port": 5432, "name": "sql"}]},
    }
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None"}}
    found = service_variables([service, headless], host="10.0.0.1", port="443", enabled=True)
    assert (found["MY_DB_SERVICE_HOST"], found["MY_DB_SERVICE_PORT_SQL"]) == ("10.1.1.1", "5432")
    assert found["MY_DB_PORT_5432_TCP"] == "tcp://10.1.1.1:5432"
    assert set(service_variables([service], host="a", port="1", enabled=False)) == {
        "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS",
    }  # fmt: skip


def test_a_config_map_gives_text_and_bytes() -> None:
    found = files_of({"configMap": {"name": "cm", "defaultMode": 0o400}}, CONTEXT, {})
    assert found == {"k": File(b"v", 0o400), "b": File(b"\xff", 0o400)}


def test_a_projected_volume_holds_all_its_sources() -> None:
    sources = [
        {"secret": {"name": "s", "items": [{"key": "k", "path": "deep/k", "mode": 0o600}]}},
        {"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "absent", "optional": True}},
    ]
    found = files_of({"projected": {"sources": sources}}, CONTEXT, {"token": "t"})
    assert found == {"deep/k": File(b"hidden", 0o600), "token": File(b"t", 0o644)}


def test_files_are_replaced_together(tmp_path: Path) -> None:
    assert atomic.write(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)}, None)
    assert not atomic.write(tmp_path, {"a": File(b"1", 0o644), "d/b": File(b"2", 0o600)}, None)
    assert atomic.write(tmp_path, {"a": File(b"3", 0o644)}, None)
    assert (tmp_path / "a").read_bytes() == b"3"
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["a"]
    assert len([p for p in tmp_path.iterdir() if p.is_dir() and not p.is_symlink()]) == 1


def test_a_container_s_own_security_context_wins() -> None:
    pod = {
        "spec": {
            "securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 7, "supplementalGroups": [5]}
        }
    }
    found = identity(
        pod, {"securityContext": {"runAsUser": 9, "capabilities": {"drop": ["ALL"], "add": ["KILL"]}}}
    )
    assert (found.uid, found.gid, found.groups, found.capabilities) == (9, 2, (5, 7), (5,))


def test_root_is_refused_where_it_is_forbidden() -> None:
    with pytest.raises(Refused):
        identity({"spec": {"securityContext": {"runAsNonRoot": True}}}, {})
