"""Envoy's routes: one virtual host whose routes give each request its program, objective and place in the queue.

A request's identity is, in this order: what the program's `identity.headers` name, parent before session; else the
session header that a known client sends on its own. It becomes the fairness id `<program>/<identity>`, so sessions
of two programs never share a queue; requests without identity share one of their program's own, `<program>/`.

Identities end up as metric labels and log lines of the picker, in which bytes that are not UTF-8 are an error. So a
request whose identity is not printable ASCII is answered with 400, and identities are cut to MAX_IDENTITY_CHARS.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from agentic_serving.api.matching import (
    OWNED_HEADERS,
    OWNED_PREFIXES,
    SESSION_HEADERS,
    Condition,
    ProgramRoute,
    conditions,
)
from agentic_serving.api.program import DEFAULT_PROGRAM
from agentic_serving.render.releases import Headers

__all__ = ["MUTATION_FILTER", "PROGRAM_METADATA", "edge_mutations", "virtual_host"]

#: Where a request's identity is gathered: at the edge from known clients' headers, then by its program's own.
#: Never leaves for an engine.
SESSION = "x-agentic-serving-session"
MAX_IDENTITY_CHARS = 200
IDENTITY_VALUE = "[ -~]*"

PROGRAM_METADATA = "agentic-serving"
MUTATION_FILTER = "program"
_PER_ROUTE = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"


def edge_mutations() -> list[dict[str, Any]]:
    """What happens to the headers of every request before routes are matched."""
    removals = [{"remove": name} for name in sorted(OWNED_HEADERS)]
    prefixes = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in OWNED_PREFIXES]
    # A header that is not there formats to nothing, and nothing is not added.
    copies = [_append(SESSION, f"%REQ({name})%", "ADD_IF_ABSENT") for name in SESSION_HEADERS]
    return [*removals, *prefixes, *copies]


def virtual_host(
    programs: Sequence[ProgramRoute], headers: Headers, *, cluster: str, timeout: str
) -> dict[str, Any]:
    """What refuses bad identities, then the programs, most specific first, then the default program."""
    action = {"cluster": cluster, "timeout": timeout, "idle_timeout": timeout}
    default = ProgramRoute(namespace="", name=DEFAULT_PROGRAM)
    return {
        "name": "programs",
        "domains": ["*"],
        "request_headers_to_remove": [SESSION],
        "routes": [
            *_guards(programs),
            *(
                _route(program, met, headers, action)
                for program in (*programs, default)
                for met in conditions(program)
            ),
        ],
    }


def _guards(programs: Sequence[ProgramRoute]) -> Iterator[dict[str, Any]]:
    """A refusal per header that may hold an identity. A header that is not there is no offence."""
    own = {
        name.lower()
        for program in programs
        for name in (program.session_header, program.parent_header)
        if name is not None
    }
    for name in sorted(own | set(SESSION_HEADERS)):
        wrong = {
            "name": name,
            "invert_match": True,
            "string_match": {"safe_regex": {"regex": IDENTITY_VALUE}},
        }
        answer = {"inline_string": f"header {name} names a session and must be printable ASCII\n"}
        yield {
            "match": {"prefix": "/", "headers": [wrong]},
            "direct_response": {"status": 400, "body": answer},
        }


def _route(
    program: ProgramRoute, met: Sequence[Condition], headers: Headers, action: dict[str, Any]
) -> dict[str, Any]:
    """A route of one list of conditions: Envoy's routes know no `or`."""
    match: dict[str, Any] = {"prefix": "/"}
    if met:
        match["headers"] = [_condition(condition) for condition in met]
    mutations = {"request_mutations": list(_mutations(program, headers))}
    return {
        "match": match,
        "metadata": {"filter_metadata": {PROGRAM_METADATA: {"program": program.name}}},
        "route": dict(action),
        "typed_per_filter_config": {MUTATION_FILTER: {"@type": _PER_ROUTE, "mutations": mutations}},
    }


def _mutations(program: ProgramRoute, headers: Headers) -> Iterator[dict[str, Any]]:
    """In order: each overwrites the last, and a header that is not there formats to nothing and overwrites nothing."""
    for source in (program.session_header, program.parent_header):
        if source is not None:
            yield _set(SESSION, f"%REQ({source.lower()})%")
    identity = f"%REQ({SESSION}):{MAX_IDENTITY_CHARS}%"
    yield _set(headers.fairness, f"{_literal(program.name)}/{identity}")
    if program.objective_name:
        yield _set(headers.objective, _literal(program.objective_name))


def _condition(condition: Condition) -> dict[str, Any]:
    name = condition.name.lower()
    if condition.how == "Present":
        return {"name": name, "present_match": True}
    if condition.how == "RegularExpression":
        return {"name": name, "string_match": {"safe_regex": {"regex": condition.value}}}
    return {"name": name, "string_match": {condition.how.lower(): condition.value}}


def _set(name: str, value: str) -> dict[str, Any]:
    return _append(name, value, "OVERWRITE_IF_EXISTS_OR_ADD")


def _append(name: str, value: str, action: str) -> dict[str, Any]:
    return {"append": {"header": {"key": name, "value": value}, "append_action": action}}


def _literal(text: str) -> str:
    """Text as Envoy's formatter must read it to give it back: `%` would begin a command."""
    return text.replace("%", "%%")
