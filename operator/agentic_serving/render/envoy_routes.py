"""Envoy's routes: one virtual host whose routes give each request its program, objective and place in the queue.

A request's identity is, in this order: what the program's `identity.headers` name, parent before session; else the
session header that a known client sends on its own. It becomes the fairness id `<program>/<identity>`, so sessions
of two programs never share a queue; requests without identity share one of their program's own, `<program>/`.

Identities end up as metric labels and log lines of the picker, in which bytes that are not UTF-8 are an error. So a
request whose identity is not printable ASCII is answered with 400, and identities are cut to MAX_IDENTITY_CHARS.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from agentic_serving.api.matching import (
    OWNED_HEADERS,
    OWNED_PREFIXES,
    PROGRAM_HEADER,
    SESSION_HEADERS,
    Condition,
    ProgramRoute,
    conditions,
)
from agentic_serving.api.program import DEFAULT_PROGRAM
from agentic_serving.render.envoy_hints import hints_route
from agentic_serving.render.envoy_picking import retry_policy, tries
from agentic_serving.render.releases import Headers

__all__ = [
    "MUTATION_FILTER",
    "PROGRAM_METADATA",
    "ROUTES",
    "ROUTES_FILE",
    "RouteLimits",
    "edge_mutations",
    "routes_document",
    "routes_source",
]

#: The routes' name and the file that Envoy reads them from, again whenever it is replaced.
ROUTES = "programs"
ROUTES_FILE = PurePosixPath("/etc/envoy/routes.yaml")

#: Where a request's identity is gathered: at the edge from known clients' headers, then by its program's own.
#: Never leaves for an engine.
SESSION = "x-agentic-serving-session"
MAX_IDENTITY_CHARS = 200
IDENTITY_VALUE = "[ -~]*"

PROGRAM_METADATA = "agentic-serving"
MUTATION_FILTER = "program"
_PER_ROUTE = "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"
_ROUTE_CONFIGURATION = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLimits:
    """What every route allows.

    Attributes:
        request_s: from the first byte to the last, waiting included.
        stream_s: the same, at which the stream is cut if nothing else has ended it.
    """

    request_s: int
    stream_s: int


def edge_mutations() -> list[dict[str, Any]]:
    """What happens to the headers of every request before routes are matched."""
    removals = [{"remove": name} for name in sorted(OWNED_HEADERS)]
    prefixes = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in OWNED_PREFIXES]
    # A header that is not there formats to nothing, and nothing is not added.
    copies = [_append(SESSION, f"%REQ({name})%", "ADD_IF_ABSENT") for name in SESSION_HEADERS]
    return [*removals, *prefixes, *copies]


def routes_source() -> dict[str, Any]:
    """How Envoy's listener finds the routes. A mounted ConfigMap changes by a rename in its folder."""
    path = {"path": str(ROUTES_FILE), "watched_directory": {"path": str(ROUTES_FILE.parent)}}
    return {
        "route_config_name": ROUTES,
        "config_source": {"resource_api_version": "V3", "path_config_source": path},
    }


def routes_document(
    programs: Sequence[ProgramRoute], headers: Headers, *, cluster: str, limits: RouteLimits, stamped: bool
) -> dict[str, Any]:
    """The file of routes. `stamped`: requests carry their program's name to the program scheduler."""
    host = _virtual_host(programs, headers, action=_action(cluster, limits), stamped=stamped)
    return {"resources": [{"@type": _ROUTE_CONFIGURATION, "name": ROUTES, "virtual_hosts": [host]}]}


def _action(cluster: str, limits: RouteLimits) -> dict[str, Any]:
    longest_s = f"{limits.stream_s}s"
    return {
        "cluster": cluster,
        "timeout": longest_s,  # of all tries, the picker's queue included
        "idle_timeout": f"{limits.request_s}s",
        "max_stream_duration": {"max_stream_duration": longest_s},
        "retry_policy": retry_policy(),
    }


def _virtual_host(
    programs: Sequence[ProgramRoute], headers: Headers, *, action: dict[str, Any], stamped: bool
) -> dict[str, Any]:
    """What refuses bad identities, then the programs, most specific first, then the default program."""
    default = ProgramRoute(namespace="", name=DEFAULT_PROGRAM)
    return {
        "name": "programs",
        "domains": ["*"],
        "request_headers_to_remove": [SESSION, PROGRAM_HEADER] if stamped else [SESSION],
        **tries(hinted=stamped),
        "routes": [
            *_guards(programs),
            *(_hints(programs, default) if stamped else ()),
            *(
                _route(
                    program, met, action, [*_stamp(program, stamped=stamped), *_mutations(program, headers)]
                )
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


def _hints(programs: Sequence[ProgramRoute], default: ProgramRoute) -> Iterator[dict[str, Any]]:
    """Before all routes of calls, as each of those takes every path."""
    for program in (*programs, default):
        for met in conditions(program):
            yield hints_route(program.name, _match(met))


def _route(
    program: ProgramRoute,
    met: Sequence[Condition],
    action: dict[str, Any],
    mutations: list[dict[str, Any]],
) -> dict[str, Any]:
    """A route of one list of conditions: Envoy's routes know no `or`."""
    return {
        "match": _match(met),
        "metadata": {"filter_metadata": {PROGRAM_METADATA: {"program": program.name}}},
        "route": dict(action),
        "typed_per_filter_config": {
            MUTATION_FILTER: {"@type": _PER_ROUTE, "mutations": {"request_mutations": mutations}}
        },
    }


def _match(met: Sequence[Condition]) -> dict[str, Any]:
    match: dict[str, Any] = {"prefix": "/"}
    if met:
        match["headers"] = [_condition(condition) for condition in met]
    return match


def _stamp(program: ProgramRoute, *, stamped: bool) -> Iterator[dict[str, Any]]:
    if stamped:
        yield _set(PROGRAM_HEADER, _literal(program.name))


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
