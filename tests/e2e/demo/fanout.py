"""A fan-out that is made on purpose: a parent, children that begin with the same long text, and their parent again."""

import json
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["fan_out"]

_WORDS = ("review", "the", "next", "file", "for", "mistakes", "and", "say", "what", "you", "find", "there")
#: About 6,000 tokens: the shared part of a fan-out of Claude Code, at the scale of the demo's other sessions.
_SHARED_WORDS = 5_000


def fan_out(endpoint: str, model: str, headers: Mapping[str, str], *, name: str, children: int) -> None:
    """Sends it, and waits for all answers.

    Args:
        headers: by which the program is recognised.
        name: of the parent's session; must be new.
    """
    shared = f"run {name}: " + " ".join(_WORDS[i * i % len(_WORDS)] for i in range(_SHARED_WORDS))
    parent = {**headers, "x-session-id": name}
    task = [_message("user", f"{name}: let {children} helpers look at a file each")]
    _ask(endpoint, model, parent, task)
    with ThreadPoolExecutor(children) as pool:
        for done in [
            pool.submit(
                _ask,
                endpoint,
                model,
                {**headers, "x-session-id": f"{name}.{i}", "x-parent-session-id": name},
                [_message("system", shared), _message("user", f"your file is number {i}")],
            )
            for i in range(children)
        ]:
            done.result()
    joined = [
        *task,
        {"role": "assistant", "content": None, "tool_calls": [_call(i) for i in range(children)]},
        *(
            {"role": "tool", "tool_call_id": f"call-{i}", "content": f"file {i} is fine"}
            for i in range(children)
        ),
    ]
    _ask(endpoint, model, parent, joined)


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def _call(i: int) -> dict[str, Any]:
    return {
        "id": f"call-{i}",
        "type": "function",
        "function": {"name": "review", "arguments": f'{{"file": {i}}}'},
    }


def _ask(
    endpoint: str, model: str, headers: Mapping[str, str], messages: Sequence[Mapping[str, Any]]
) -> None:
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": 48,
        "tools": [{"type": "function", "function": {"name": "review", "parameters": {"type": "object"}}}],
        "tool_choice": "none",
    }
    request = urllib.request.Request(
        f"{endpoint}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={**headers, "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
