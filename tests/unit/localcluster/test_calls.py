"""calls: request lines as the API server reads them, and what a matcher picks."""

import pytest

from tests.e2e.localcluster.calls import matching, parse_call

DEPLOYMENTS = "/apis/apps/v1/namespaces/n/deployments"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("GET /api/v1/namespaces/n/pods", ("list", "", "pods", "", "n", "")),
        ("GET /api/v1/pods", ("list", "", "pods", "", "", "")),
        ("GET /api/v1/namespaces/n/pods?watch=true&resourceVersion=5", ("watch", "", "pods", "", "n", "")),
        ("GET /api/v1/namespaces/n/pods?watch=0", ("list", "", "pods", "", "n", "")),
        ("GET /api/v1/namespaces/n/pods/p", ("get", "", "pods", "", "n", "p")),
        ("POST /api/v1/namespaces/n/pods/p/binding", ("create", "", "pods", "binding", "n", "p")),
        (f"POST {DEPLOYMENTS}", ("create", "apps", "deployments", "", "n", "")),
        (f"PUT {DEPLOYMENTS}/d", ("update", "apps", "deployments", "", "n", "d")),
        (
            f"PATCH {DEPLOYMENTS}/d/status?fieldManager=x",
            ("patch", "apps", "deployments", "status", "n", "d"),
        ),
        (f"DELETE {DEPLOYMENTS}/d", ("delete", "apps", "deployments", "", "n", "d")),
        (f"DELETE {DEPLOYMENTS}", ("deletecollection", "apps", "deployments", "", "n", "")),
        ("GET /api/v1/namespaces", ("list", "", "namespaces", "", "", "")),
        ("GET /api/v1/namespaces/n", ("get", "", "namespaces", "", "n", "n")),
        ("PUT /api/v1/namespaces/n/finalize", ("update", "", "namespaces", "finalize", "n", "n")),
        ("GET /apis/apps/v1", ("list", "apps", "", "", "", "")),
        ("GET /readyz", ("list", "", "", "", "", "")),
        ("GET /", ("list", "", "", "", "", "")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_line_is_read_in_the_words_of_rbac(line: str, said: tuple[str, ...]) -> None:
    call = parse_call(*line.split(" ", 1))
    assert (call.verb, call.group, call.resource, call.subresource, call.namespace, call.name) == said


@pytest.mark.parametrize(
    ("wanted", "line", "matches"),
    [
        ({}, f"GET {DEPLOYMENTS}", True),
        ({}, "GET /readyz", False),
        ({}, "GET /apis/apps/v1", False),
        ({"writes_only": True}, f"GET {DEPLOYMENTS}", False),
        ({"writes_only": True}, f"PATCH {DEPLOYMENTS}/d", True),
        ({"subresource": ""}, f"PATCH {DEPLOYMENTS}/d/status", False),
        ({"subresource": "status"}, f"PATCH {DEPLOYMENTS}/d/status", True),
        ({"verb": "patch", "name": "e"}, f"PATCH {DEPLOYMENTS}/d", False),
        ({"writes_only": True}, "PUT /apis/coordination.k8s.io/v1/namespaces/n/leases/l", False),
        ({"resource": "leases"}, "PUT /apis/coordination.k8s.io/v1/namespaces/n/leases/l", True),
    ],
    ids=str,
)
def test_a_matcher_wants_every_given_word(wanted: dict[str, object], line: str, *, matches: bool) -> None:
    assert matching(**wanted)(parse_call(*line.split(" ", 1))) is matches  # type: ignore[arg-type]
