"""router.subset: every role in the hint, and no pod alone that may go."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.router.subset import others, subset
from agentic_serving.router.words import Pod

A = Pod(name="a", endpoint="10.0.0.1:8000", role="Aggregated", ready=True)
B = Pod(name="b", endpoint="10.0.0.2:8000", role="Aggregated", ready=True)
D = Pod(name="d", endpoint="10.0.0.3:8000", role="Decode", ready=True)
E = Pod(name="e", endpoint="10.0.0.4:8000", role="Decode", ready=True)
P = Pod(name="p", endpoint="10.0.0.5:8000", role="Prefill", ready=True)
Q = Pod(name="q", endpoint="10.0.0.6:8000", role="Prefill", ready=True)


@pytest.mark.parametrize(
    ("target", "pods", "expected"),
    [
        ("a", [A, B], (A.endpoint,)),
        ("a", [replace(A, ready=False), B], ()),
        ("a", [replace(A, draining=True), B], ()),
        ("a", [B], ()),
        ("", [A], ()),
        ("d", [D, E, P, Q], (D.endpoint, P.endpoint, Q.endpoint)),
        ("d", [D, E, P, replace(Q, draining=True)], (D.endpoint, P.endpoint)),
        ("d", [D, E, replace(P, ready=False)], ()),
        ("d", [D, E], (D.endpoint,)),
        ("a", [replace(A, endpoint="[fd00::1]:8000"), B], ()),
    ],
    ids=[
        "the one pod that is meant",
        "not one that is not Ready",
        "not one that is being drained",
        "not one that is gone",
        "no target",
        "with every pod of the other role",
        "without those of the other role that go",
        "a role without a usable pod: the picker decides",
        "a stack whose prefill pods are not there at all",
        "IPv6, which the picker cuts at the first colon",
    ],
)
def test_rule(target: str, pods: list[Pod], expected: tuple[str, ...]) -> None:
    assert subset(target, pods) == expected


@pytest.mark.parametrize(
    ("target", "pods", "expected"),
    [
        ("a", [A, B], (B.endpoint,)),
        ("a", [A], ()),
        ("a", [A, replace(B, ready=False)], ()),
        ("d", [D, E, P, Q], (E.endpoint, P.endpoint, Q.endpoint)),
        ("d", [D, P, Q], ()),
    ],
    ids=[
        "who can take its place",
        "it is alone",
        "the other is not Ready",
        "with every pod of the other role",
        "it is alone in its role",
    ],
)
def test_others(target: str, pods: list[Pod], expected: tuple[str, ...]) -> None:
    assert others(target, pods) == expected


PODS = st.lists(
    st.builds(
        Pod,
        name=st.sampled_from("abcdef"),
        endpoint=st.sampled_from(["", *(f"10.0.0.{n}:8000" for n in range(6))]),
        role=st.sampled_from(["Prefill", "Decode"]),
        ready=st.booleans(),
        draining=st.booleans(),
    ),
    max_size=6,
    unique_by=(lambda pod: pod.name, lambda pod: pod.endpoint),
)


@given(PODS, st.sampled_from("abcdef"))
def test_a_hint_names_usable_pods_of_every_role_or_is_none(pods: list[Pod], target: str) -> None:
    found = subset(target, pods)
    named = [pod for pod in pods if pod.endpoint in found]
    assert len(named) == len(found)
    assert all(pod.ready and not pod.draining for pod in named)
    if found:
        assert target in {pod.name for pod in named}
        assert {pod.role for pod in named} == {pod.role for pod in pods}
