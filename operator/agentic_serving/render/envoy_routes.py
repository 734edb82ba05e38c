"""Envoy's routes: one virtual host whose routes give each request its program, objective and place in the queue.

A request's identity is, in this order: what the program's `identity.headers` name, parent before session; else the
session header that a known client sends on its own. It becomes the fairness id `<program>/<identity>`, so sessions
of two programs never share a queue; requests without identity share their program's, `<program>`. Requests of no
program and without identity carry no fairness id: the picker keeps one queue for them.

The own session header of clients is copied at the edge into SESSION, so that each program needs one route for it
rather than one per client. Identities are cut to MAX_IDENTITY_CHARS and ignored if they are not printable ASCII.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from agentic_serving.api.program import DEFAULT_PROGRAM, HeaderMatch
from agentic_serving.render.matching import (
    CLIENTS,
    OWNED_HEADERS,
    OWNED_PREFIXES,
    SESSION_HEADERS,
    Condition,
    ProgramRoute,
)
from agentic_serving.render.releases import Headers

__all__ = ["MUTATION_FILTER", "PROGRAM_METADATA", "edge_mutations", "virtual_host"]

#: Where the edge puts the session header of a known client. Never leaves for an engine.
SESSION = "x-agentic-serving-session"
MAX_IDENTITY_CHARS = 200
IDENTITY_VALUE = "[ -~]+"

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
    """Routes of all programs, most specific first, then those of the default program."""
    action = {"cluster": cluster, "timeout": timeout, "idle_timeout": timeout}
    routes = [
        _route(program.name, conditions, mutations, action)
        for program in programs
        for alternative in _alternatives(program)
        for conditions, mutations in _identified(program, headers, alternative)
    ]
    default = ProgramRoute(namespace="", name=DEFAULT_PROGRAM)
    routes += [
        _route(default.name, conditions, mutations, action)
        for conditions, mutations in _identified(default, headers, [])
    ]
    return {
        "name": "programs",
        "domains": ["*"],
        "request_headers_to_remove": [SESSION],
        "routes": routes,
    }


def _alternatives(program: ProgramRoute) -> Iterator[list[dict[str, Any]]]:
    """Header conditions, any list of which makes a request the program's: Envoy's routes know no `or`."""
    headers = [_header_match(header) for header in program.headers]
    if not program.clients:
        yield headers
    for client in program.clients:
        for condition in CLIENTS[client]:
            yield [*headers, _condition(condition)]


def _identified(
    program: ProgramRoute, headers: Headers, conditions: list[dict[str, Any]]
) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """(conditions, mutations) for each source of an identity, best first, last for a request that has none."""
    objective = [_set(headers.objective, _literal(program.objective_name))] if program.objective_name else []
    for source in (program.parent_header, program.session_header, SESSION):
        if source is None:
            continue
        identity = f"{_literal(program.name)}/%REQ({source.lower()}):{MAX_IDENTITY_CHARS}%"
        yield [*conditions, _identity(source)], [*objective, _set(headers.fairness, identity)]
    anonymous = [] if program.name == DEFAULT_PROGRAM else [_set(headers.fairness, _literal(program.name))]
    yield conditions, [*objective, *anonymous]


def _route(
    program: str, conditions: list[dict[str, Any]], mutations: list[dict[str, Any]], action: dict[str, Any]
) -> dict[str, Any]:
    match: dict[str, Any] = {"prefix": "/"}
    if conditions:
        match["headers"] = conditions
    route: dict[str, Any] = {
        "match": match,
        "metadata": {"filter_metadata": {PROGRAM_METADATA: {"program": program}}},
        "route": dict(action),
    }
    if mutations:
        per_route = {"@type": _PER_ROUTE, "mutations": {"request_mutations": mutations}}
        route["typed_per_filter_config"] = {MUTATION_FILTER: per_route}
    return route


def _header_match(header: HeaderMatch) -> dict[str, Any]:
    return _condition(Condition(name=header.name, how=header.type, value=header.value))


def _condition(condition: Condition) -> dict[str, Any]:
    name = condition.name.lower()
    if condition.how == "Present":
        return {"name": name, "present_match": True}
    if condition.how == "RegularExpression":
        return {"name": name, "string_match": {"safe_regex": {"regex": condition.value}}}
    return {"name": name, "string_match": {condition.how.lower(): condition.value}}


def _identity(name: str) -> dict[str, Any]:
    return {"name": name.lower(), "string_match": {"safe_regex": {"regex": IDENTITY_VALUE}}}


def _set(name: str, value: str) -> dict[str, Any]:
    return _append(name, value, "OVERWRITE_IF_EXISTS_OR_ADD")


def _append(name: str, value: str, action: str) -> dict[str, Any]:
    return {"append": {"header": {"key": name, "value": value}, "append_action": action}}


def _literal(text: str) -> str:
    """Text as Envoy's formatter must read it to give it back: `%` would begin a command."""
    return text.replace("%", "%%")
