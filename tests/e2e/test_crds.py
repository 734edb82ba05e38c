"""The CRDs on a real API server: it takes them, refuses what we mean in our words, and agrees with `parse`.

Only etcd and kube-apiserver run. Objects are created with `dryRun=All`: the whole of admission, no storage.
"""

import copy
import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agentic_serving.api.base import ApiObject
from agentic_serving.api.crd import KIND_INFOS, KindInfo, crd, object_schema
from agentic_serving.api.findings import errors
from agentic_serving.api.schema import nodes
from agentic_serving.api.validate import KINDS, dump, parse
from agentic_serving.assets import crds_dir
from agentic_serving.names import API_VERSION, GROUP
from tests.crd_cases.cases import BAD, GOOD, BadCase, GoodCase
from tests.crd_cases.strategies import grafted_objects, hostile_objects
from tests.e2e.localcluster.cluster import KubectlFailed
from tests.e2e.localcluster.controlplane import ControlPlane, Response

pytest_plugins = ("tests.e2e.localcluster.fixtures",)

NAMESPACE = "default"
infos = pytest.mark.parametrize("info", KIND_INFOS.values(), ids=KIND_INFOS)
# The same objects in every run: a difference between the server and us must be reproducible.
differential = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def server(bare_api_server: ControlPlane) -> ControlPlane:
    """An API server with our committed CRDs."""
    bare_api_server.install_crds(
        yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted(crds_dir().glob(f"*.{GROUP}.yaml"))
    )
    return bare_api_server


def dry_create(server: ControlPlane, kind: str, obj: dict[str, Any], *, strict: bool = False) -> Response:
    collection = f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/{KIND_INFOS[kind].plural}"
    validation = "Strict" if strict else "Ignore"
    return server.request("POST", f"{collection}?dryRun=All&fieldValidation={validation}", obj)


@infos
def test_the_server_finds_nothing_to_complain_about(server: ControlPlane, info: KindInfo) -> None:
    live = server.get("crd", crd(info.model)["metadata"]["name"])
    conditions = {c["type"]: c["status"] for c in live["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert live["spec"]["versions"] == crd(info.model)["spec"]["versions"]


@pytest.mark.parametrize("case", GOOD, ids=lambda c: c.name)
def test_good_objects_are_accepted(server: ControlPlane, case: GoodCase) -> None:
    answer = dry_create(server, case.kind, case.obj, strict=True)
    assert answer.code == 201, answer.body


@pytest.mark.parametrize("case", BAD, ids=lambda c: c.name)
def test_bad_objects_are_refused_with_the_message_we_mean(server: ControlPlane, case: BadCase) -> None:
    answer = dry_create(server, case.kind, case.obj)
    if not case.server:
        assert answer.code == 201, answer.body
        return
    assert answer.code == 422, answer.body
    message = answer.json()["message"]
    for text in case.server:
        assert text in message
    for path in case.findings:
        # The server writes keys of maps behind a dot, and calls the root, where rules on names sit, nothing.
        assert re.sub(r"\[(\D[^]]*)\]", r".\1", path) in message or path == "metadata.name"


@pytest.mark.parametrize("case", GOOD, ids=lambda c: c.name)
def test_the_server_fills_in_what_the_types_do(server: ControlPlane, case: GoodCase) -> None:
    filled = dry_create(server, case.kind, case.obj).json()
    ours, _ = parse(KINDS[case.kind], case.obj)
    theirs, findings = parse(KINDS[case.kind], filled)
    assert ours is not None
    assert theirs is not None
    assert findings == ()
    assert dump(theirs)["spec"] == dump(ours)["spec"]
    assert missing(dump(ours)["spec"], filled["spec"]) == []


def missing(wanted: Any, got: Any, path: str = "spec") -> list[str]:  # noqa: ANN401 - any JSON value
    """Paths whose value in `wanted` is not the one in `got`; more in `got` does not count."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        return [m for k, v in wanted.items() for m in missing(v, got.get(k), f"{path}.{k}")]
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        return [m for i, v in enumerate(wanted) for m in missing(v, got[i], f"{path}[{i}]")]
    return [] if wanted == got else [path]


def agree(server: ControlPlane, model: type[ApiObject], obj: dict[str, Any]) -> None:
    """The server accepts exactly what `parse` finds no error in, and both make the same of it."""
    whole = {**obj, "apiVersion": API_VERSION, "kind": model.__name__}
    answer = dry_create(server, model.__name__, whole)
    found, findings = parse(model, whole)
    assert answer.code in (201, 422), answer.body
    assert (answer.code == 201) == (not errors(findings)), (
        json.dumps(whole)[:2000], answer.body[:2000], [str(f) for f in findings],
    )  # fmt: skip
    if answer.code == 201 and found is not None:
        assert missing(dump(found)["spec"], answer.json()["spec"]) == []


@pytest.mark.parametrize("model", KINDS.values(), ids=KINDS)
@given(data=st.data())
@differential
def test_server_and_parse_agree_on_legal_objects(
    server: ControlPlane, model: type[ApiObject], data: st.DataObject
) -> None:
    agree(server, model, data.draw(grafted_objects(model)))


@pytest.mark.parametrize("model", KINDS.values(), ids=KINDS)
@given(data=st.data())
@differential
def test_server_and_parse_agree_on_hostile_objects(
    server: ControlPlane, model: type[ApiObject], data: st.DataObject
) -> None:
    agree(server, model, data.draw(hostile_objects(model)))


@infos
def test_every_field_is_explained(server: ControlPlane, info: KindInfo) -> None:
    text = " ".join(server.kubectl("explain", f"{info.plural}.spec", "--recursive").split())
    for path, node in nodes(object_schema(info.model)["properties"]["spec"]):
        name = path.rpartition(".")[2].strip("[]{}")
        assert not name or name in text
        assert "description" in node or path.endswith(("[]", "{}"))


@infos
def test_short_name_and_category_are_served(server: ControlPlane, info: KindInfo) -> None:
    resources = server.kubectl("api-resources", "--categories=agentic", "--no-headers", "--namespaced=true")
    rows = {row.split()[0]: row.split()[1] for row in resources.splitlines()}
    assert rows[info.plural] == info.short_name
    assert set(rows) == {i.plural for i in KIND_INFOS.values()}


STATUS: dict[str, dict[str, Any]] = {
    "AgenticServingStack": {"replicas": "1/2", "endpoint": "http://chat.default:8080"},
    "AgentProgram": {},
    "KVTierPolicy": {"attachedStacks": ["chat"], "attachedStacksTotal": 1},
}


def apply_status(server: ControlPlane, obj: dict[str, Any]) -> None:
    """Server-side apply to the status, as the operator does it."""
    server.kubectl(
        "apply", "--server-side", "--force-conflicts", "--subresource=status", "--field-manager=operator",
        "-n", NAMESPACE, "-f", "-", stdin=json.dumps(obj),
    )  # fmt: skip


def stored(server: ControlPlane, kind: str) -> dict[str, Any]:
    """The base object of a kind, stored; returns it without its spec and with a status that was applied."""
    obj = copy.deepcopy(next(case.obj for case in GOOD if case.kind == kind))
    server.apply([obj], namespace=NAMESPACE)
    condition = {
        "type": "Ready", "status": "False", "reason": "Progressing", "message": "waiting for 1 of 2 replicas",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    }  # fmt: skip
    obj = {k: v for k, v in obj.items() if k != "spec"}
    obj["status"] = {"observedGeneration": 1, "conditions": [condition], **STATUS[kind]}
    apply_status(server, obj)
    return obj


@infos
def test_a_status_is_applied_and_shown(server: ControlPlane, info: KindInfo) -> None:
    written = stored(server, info.kind)
    name = written["metadata"]["name"]
    live = server.get(info.short_name, name, "-n", NAMESPACE)
    assert live["status"] == written["status"]
    assert live["metadata"]["generation"] == 1
    header, row = server.kubectl("get", info.short_name, name, "-n", NAMESPACE, "-o", "wide").splitlines()
    assert header.split()[:3] == ["NAME", "READY", "REASON"]
    assert row.split()[:3] == [name, "False", "Progressing"]
    assert row.endswith("waiting for 1 of 2 replicas")
    described = server.kubectl("describe", info.short_name, name, "-n", NAMESPACE)
    assert "waiting for 1 of 2 replicas" in described


@infos
def test_a_spec_cannot_be_changed_through_the_status(server: ControlPlane, info: KindInfo) -> None:
    obj = stored(server, info.kind)
    name = obj["metadata"]["name"]
    before = server.get(info.plural, name, "-n", NAMESPACE)["spec"]
    patch = json.dumps({"spec": None, "status": {"observedGeneration": 2}})
    server.kubectl(
        "patch", info.plural, name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", patch
    )
    after = server.get(info.plural, name, "-n", NAMESPACE)
    assert after["spec"] == before
    assert after["status"]["observedGeneration"] == 2


def test_kubectl_refuses_a_misspelt_field(server: ControlPlane) -> None:
    obj = copy.deepcopy(next(case.obj for case in GOOD if case.kind == "AgenticServingStack"))
    obj["spec"]["modle"] = {}
    with pytest.raises(KubectlFailed) as refused:
        server.kubectl("create", "--dry-run=server", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(obj))
    assert 'unknown field "spec.modle"' in refused.value.stderr


def test_a_status_may_hold_the_most_that_the_schema_allows(server: ControlPlane) -> None:
    """CEL and size limits leave room for a full status: 16 conditions, 32 capabilities, 4 roles."""
    obj = stored(server, "AgenticServingStack")
    obj["status"] |= {
        "conditions": [
            {
                "type": f"T{i}", "status": "True", "reason": "R" * 128, "message": "m" * 2048,
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 2**53,
            }
            for i in range(16)
        ],
        "capabilities": [
            {"intent": f"I{i}", "role": "Decode", "state": "Unsupported", "reason": "x" * 512, "mechanism": "y" * 128}
            for i in range(32)
        ],
        "roles": [{"name": n, "replicas": 1} for n in ("Aggregated", "Prefill", "Decode", "Router")],
    }  # fmt: skip
    apply_status(server, obj)
    live = server.get("astack", obj["metadata"]["name"], "-n", NAMESPACE)
    assert len(live["status"]["capabilities"]) == 32
