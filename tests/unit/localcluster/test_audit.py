"""audit: log lines of a real API server (v1.36.3, shortened), and which of them are writes."""

import json

import pytest

from tests.e2e.localcluster.audit import parse, writes


def line(**changes: object) -> str:
    entry: dict[str, object] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "stage": "ResponseComplete",
        "requestURI": "/apis/apps/v1/namespaces/n/deployments/d?fieldManager=agentic-serving&force=true",
        "verb": "patch",
        "user": {"username": "system:serviceaccount:n:operator", "groups": ["system:authenticated"]},
        "userAgent": "kopf",
        "objectRef": {
            "resource": "deployments",
            "namespace": "n",
            "name": "d",
            "apiGroup": "apps",
            "apiVersion": "v1",
        },
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2026-01-02T03:04:05.000000Z",
        "stageTimestamp": "2026-01-02T03:04:05.250000Z",
    }
    return json.dumps({**entry, **changes})


def test_an_entry_says_who_did_what_to_which_object() -> None:
    (entry,) = parse([line(), "\n"])
    assert str(entry) == "patch deployments n/d -> 200 (system:serviceaccount:n:operator)"
    assert (entry.group, entry.version, entry.user_agent) == ("apps", "v1", "kopf")
    assert entry.answered_s - entry.received_s == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("changes", "is_write"),
    [
        ({}, True),
        ({"responseStatus": {"code": 409}}, True),  # refused, but asked for
        ({"verb": "get"}, False),
        ({"verb": "watch", "stage": "ResponseStarted"}, False),
        ({"requestURI": "/apis/apps/v1/namespaces/n/deployments/d?dryRun=All"}, False),
        ({"verb": "create", "objectRef": {"resource": "selfsubjectaccessreviews", "apiGroup": "authorization.k8s.io"}}, False),
        ({"verb": "create", "objectRef": {"resource": "serviceaccounts", "subresource": "token"}}, False),
        ({"verb": "deletecollection"}, True),
    ],
    ids=lambda value: json.dumps(value)[:40],
)  # fmt: skip
def test_a_write_asks_the_server_to_store_something(changes: dict[str, object], *, is_write: bool) -> None:
    assert bool(writes(parse([line(**changes)]))) is is_write


def test_writes_are_chosen_by_user_and_resource_and_heartbeats_left_aside() -> None:
    lease = {"resource": "leases", "apiGroup": "coordination.k8s.io"}
    log = parse([line(), line(user={"username": "kwok"}), line(objectRef=lease)])
    operator = "system:serviceaccount:n:operator"
    assert len(writes(log, user=operator)) == 1
    assert len(writes(log, user=operator, aside=())) == 2
    assert len(writes(log, resource="deployments")) == 2


def test_a_path_that_is_no_resource_has_an_empty_one() -> None:
    (entry,) = parse([line(verb="get", objectRef={}, requestURI="/readyz")])
    assert entry.resource == ""
