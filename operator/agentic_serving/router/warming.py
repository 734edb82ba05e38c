"""Warm-ups: what is asked of a pod so that it computes a prompt for sessions that are to come. Pure; `warmer` asks.

The pod is asked itself, by the way on which its metrics are read: through Envoy the request would be a call like any other.
Not where prefill is apart: what a decode pod has is brought there with the answer's own request.
"""

from collections.abc import Sequence
from dataclasses import replace

from agentic_serving.program import events as ev
from agentic_serving.program.request import api_of
from agentic_serving.router.rewrite import one_token
from agentic_serving.router.words import Call, Pod, Usage, WarmedUp, WarmUp

__all__ = ["ended", "noted", "request"]

#: What an engine may ask for before it serves, or reads the body by. No name of a session, a run or a user.
_HEADERS = ("authorization", "x-api-key", "anthropic-version", "anthropic-beta")


def request(call: Call, warm: ev.Warm, pods: Sequence[Pod]) -> WarmUp | None:
    """None: the pod is not there any more, or of this body nothing can be made."""
    endpoint = next((pod.endpoint for pod in pods if pod.name == warm.replica), "")
    made = one_token(call.body, api_of(call.method, call.path)) if endpoint else None
    if made is None:
        return None
    kept = {name: call.headers[name] for name in _HEADERS if name in call.headers}
    headers = {**kept, "content-type": "application/json", "x-request-id": warm.id}
    return WarmUp(id=warm.id, endpoint=endpoint, path=call.path, headers=headers, body=made)


def noted(turn: ev.Turn, warm: ev.Warm) -> WarmedUp:
    """What is told of it when it is done."""
    return WarmedUp(
        call_id=turn.id,
        program=turn.program,
        replica=warm.replica,
        outcome="Done",
        computed_tokens=turn.prompt_tokens,
    )


def ended(note: WarmedUp, usage: Usage) -> tuple[WarmedUp, ev.Event]:
    """What is told of its end, and what the core is."""
    if not 0 < usage.status < 300:
        return replace(note, outcome="Failed", computed_tokens=0), ev.Failed(usage.call_id)
    prompt = usage.prompt_tokens if usage.prompt_tokens is not None else note.computed_tokens
    cached = min(usage.cached_tokens, prompt) if usage.cached_tokens is not None else None
    event = ev.Ended(turn_id=usage.call_id, prompt_tokens=prompt, output_tokens=1, cached_tokens=cached)
    return replace(note, computed_tokens=prompt - (cached or 0)), event
