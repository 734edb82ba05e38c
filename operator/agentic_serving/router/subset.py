"""Which pods the picker may choose among, so that it chooses the one we mean and a request never finds none. Pure.

The picker compares addresses before any of its profiles (llm-d-router v0.10.0, `pkg/epp/requestcontrol`): a list without
prefill pods leaves no prefill pod, and one of which no pod is in the pool is answered with 503. So every role is in it,
and a pod stands alone for its role only while it is Ready and nobody has begun to take it away. A pod can leave between hint
and connection all the same: for Envoy's second try `others` names the pods that may take its place, and to a third nothing
is named. The picker takes an address for what stands before the first colon, so of IPv6 addresses none is ever found: they
get no hint.
"""

from collections.abc import Sequence

from agentic_serving.router.words import Pod

__all__ = ["others", "subset"]


def subset(target: str, pods: Sequence[Pod]) -> tuple[str, ...]:
    """Addresses of the target and of all usable pods of other roles; empty: no hint, the picker chooses among all.

    Args:
        target: the pod's name.
    """
    usable = _usable(pods)
    if any(pod.endpoint.startswith("[") for pod in usable):
        return ()
    chosen = next((pod for pod in usable if pod.name == target), None)
    if chosen is None or {pod.role for pod in pods} != {pod.role for pod in usable}:
        return ()
    others = sorted(pod.endpoint for pod in usable if pod.role != chosen.role)
    return (chosen.endpoint, *others)


def others(target: str, pods: Sequence[Pod]) -> tuple[str, ...]:
    """What the picker may choose among if the target could not be reached; empty: no pod could take its place."""
    rest = [pod for pod in _usable(pods) if pod.name != target]
    role = next((pod.role for pod in pods if pod.name == target), None)
    return tuple(sorted(pod.endpoint for pod in rest)) if any(pod.role == role for pod in rest) else ()


def _usable(pods: Sequence[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.ready and not pod.draining and pod.endpoint]
