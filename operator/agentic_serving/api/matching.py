"""Which requests belong to which program: AgentProgram.match as an ordered list, first match wins.

The most specific program comes first: more header conditions, then more exact ones, then one that names clients;
among equals the older one, then the one whose name sorts first. What no program matches belongs to program
`default`. Clients are recognised by what they send on their own; a client that changes its headers is recognised
again by adding an entry to CLIENTS.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from agentic_serving.api.findings import Finding
from agentic_serving.api.program import DEFAULT_PROGRAM, AgentProgram, Client, HeaderMatch
from agentic_serving.api.regex import why_refused

__all__ = [
    "CLIENTS",
    "PROGRAM_HEADER",
    "SESSION_HEADERS",
    "Condition",
    "Ordering",
    "Overlap",
    "ProgramRoute",
    "conditions",
    "holds",
    "is_owned_header",
    "order_programs",
    "route_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A request header that must be there; with `value`, be it or begin with it or match it, whole."""

    name: str
    how: Literal["Present", "Exact", "Prefix", "RegularExpression"]
    value: str = ""


#: What each client sends on every turn: any of its conditions recognises it. Observed with the released clients
#: (Claude Code 2.1.197, Codex 0.169.0, OpenCode 1.18.33); `session_id` is what Codex sent before 0.131
#: (llm-d-router v0.10.0, requestheader/agentidentity/agent_identity.go).
CLIENTS: Mapping[Client, tuple[Condition, ...]] = {
    "ClaudeCode": (Condition(name="x-claude-code-session-id", how="Present"),),
    "Codex": (
        Condition(name="x-codex-turn-metadata", how="Present"),
        Condition(name="session_id", how="Present"),
    ),
    "OpenCode": (Condition(name="x-session-affinity", how="Prefix", value="ses_"),),
}

#: Where known clients name their session, first present wins. OpenCode's parent comes first, so that a sub-agent
#: counts with its run, as the sub-agents of the other clients do by sending the parent's own id.
SESSION_HEADERS = (
    "x-parent-session-id",
    "x-session-id",
    "x-claude-code-session-id",
    "session-id",
    "session_id",
)

#: Removed from every request at the edge: only Envoy and the picker may set them. Sources: llm-d-router v0.10.0
#: and gateway-api-inference-extension v1.5.0, pkg/epp/metadata/consts.go, pkg/common/routing/common.go, pkg/sidecar/proxy/proxy.go.
OWNED_HEADERS = frozenset(
    {
        "x-prefiller-host-port",
        "x-encoder-hosts-ports",
        "x-data-parallel-host-port",
        "x-data-parallel-rank",
        "x-kv-cache-source-host-port",
        "x-session-token",  # names a pod, base64
        "x-slo-ttft-ms",
        "x-slo-tpot-ms",
        "x-original-path",  # the picker takes these two for the path if it finds no other
        "x-forwarded-path",
        "x-request-id",  # the key of the picker's accounts: two requests with one id would corrupt them
        "test-epp-endpoint-selection",
    }
)
#: `x-envoy-` holds Envoy's own switches, such as timeouts and retries.
OWNED_PREFIXES = ("x-gateway-", "x-llm-d-", "x-agentic-serving-", "x-envoy-")

#: In which the router's Envoy tells the program scheduler which program it took a request for (docs/decisions/0005).
#: Owned, by its prefix: whoever sends it from outside loses it at the edge.
PROGRAM_HEADER = "x-agentic-serving-program"

#: What carries a secret must not become a queue's name, which picker and logs show.
SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRoute:
    """What routing must know of an AgentProgram that has a `match`.

    Attributes:
        created: `metadata.creationTimestamp`; empty for an object that is not in a cluster.
        session_header, parent_header: `spec.identity.headers`; None where the program leaves them out.
        objective_name: its InferenceObjective; empty: none, so priority 0.
    """

    namespace: str
    name: str
    created: str = ""
    clients: tuple[Client, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()
    session_header: str | None = None
    parent_header: str | None = None
    objective_name: str = ""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Two programs that one request could match, with nothing but age to choose between them."""

    winner: str  # namespace/name
    loser: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """Programs in the order in which they are tried.

    Attributes:
        problems: findings by program (namespace/name); such a program is left out, as it could never match or
            would make Envoy refuse everything.
    """

    programs: tuple[ProgramRoute, ...]
    overlaps: tuple[Overlap, ...]
    problems: Mapping[str, tuple[Finding, ...]]


def order_programs(programs: Iterable[ProgramRoute]) -> Ordering:
    """The order, whatever order they come in. A program without clients and headers matches nothing."""
    given = tuple(program for program in programs if program.clients or program.headers)
    found = {program.key: tuple(_problems(program)) for program in given}
    sound = sorted((program for program in given if not found[program.key]), key=_order)
    return Ordering(
        programs=tuple(sound),
        overlaps=tuple(_overlaps(sound)),
        problems={key: problems for key, problems in sorted(found.items()) if problems},
    )


def route_of(program: AgentProgram, *, objective_name: str = "") -> ProgramRoute:
    """What routing must know of a program."""
    match = program.spec.match
    named = program.spec.identity.headers if program.spec.identity else None
    return ProgramRoute(
        namespace=program.metadata.namespace,
        name=program.metadata.name,
        created=program.metadata.creation_timestamp,
        clients=match.clients if match else (),
        headers=match.headers if match else (),
        session_header=named.session if named else None,
        parent_header=named.parent if named else None,
        objective_name=objective_name,
    )


def conditions(program: ProgramRoute) -> Iterator[tuple[Condition, ...]]:
    """Lists of conditions, any of which makes a request the program's if all in it hold."""
    own = tuple(Condition(name=h.name, how=h.type, value=h.value) for h in program.headers)
    if not program.clients:
        yield own
    for client in program.clients:
        for condition in CLIENTS[client]:
            yield (*own, condition)


def holds(condition: Condition, headers: Mapping[str, str]) -> bool | None:
    """Whether a request meets a condition, as Envoy decides it; None for a regular expression, which only Envoy tries.

    Args:
        headers: by lower-case name.
    """
    value = headers.get(condition.name.lower())
    if value is None:
        return False
    if condition.how == "RegularExpression":
        return None
    if condition.how == "Prefix":
        return value.startswith(condition.value)
    return condition.how == "Present" or value == condition.value


def is_owned_header(name: str) -> bool:
    """Whether requests from outside lose this header at the edge."""
    lower = name.lower()
    return lower in OWNED_HEADERS or lower.startswith(OWNED_PREFIXES)


def _specificity(program: ProgramRoute) -> tuple[int, int, int]:
    exact = sum(header.type == "Exact" for header in program.headers)
    return (-len(program.headers), -exact, 0 if program.clients else 1)


def _order(program: ProgramRoute) -> tuple[tuple[int, int, int], str, str, str]:
    return (_specificity(program), program.created, program.namespace, program.name)


def _overlaps(ordered: list[ProgramRoute]) -> Iterator[Overlap]:
    for position, winner in enumerate(ordered):
        for loser in ordered[position + 1 :]:
            if _specificity(loser) != _specificity(winner):
                break  # sorted by it: nobody further on is equal
            if not _disjoint(winner, loser):
                yield Overlap(winner=winner.key, loser=loser.key, why=_why(winner, loser))


def _disjoint(one: ProgramRoute, other: ProgramRoute) -> bool:
    """Whether no request of a real client matches both. Regular expressions are not compared: they may."""
    if one.clients and other.clients and not set(one.clients) & set(other.clients):
        return True
    exact = {header.name.lower(): header.value for header in one.headers if header.type == "Exact"}
    return any(
        header.type == "Exact" and exact.get(header.name.lower(), header.value) != header.value
        for header in other.headers
    )


def _why(winner: ProgramRoute, loser: ProgramRoute) -> str:
    first = "is older" if winner.created < loser.created else "has the name that sorts first"
    return (
        f"one request can match both {winner.key} and {loser.key}, which are equally specific; {winner.key} {first} "
        "and wins. Add a header condition to one of them"
    )


def _problems(program: ProgramRoute) -> Iterator[Finding]:
    if program.name == DEFAULT_PROGRAM:
        yield _problem(
            "metadata.name", "NameReserved", f"{DEFAULT_PROGRAM} names the requests of no program; rename it"
        )
    for position, header in enumerate(program.headers):
        yield from _match_problems(f"spec.match.headers[{position}]", header)
    names = [header.name.lower() for header in program.headers]
    if any(one == other for one, other in pairwise(sorted(names))):
        yield _problem(
            "spec.match.headers",
            "HeaderRepeated",
            "name each header once; conditions on one header can be one regular expression",
        )
    for field, name in (("session", program.session_header), ("parent", program.parent_header)):
        if name is not None:
            yield from _identity_problems(f"spec.identity.headers.{field}", name)


def _match_problems(path: str, header: HeaderMatch) -> Iterator[Finding]:
    if is_owned_header(header.name):
        yield _problem(
            f"{path}.name",
            "HeaderReserved",
            f"the router removes {header.name} from requests, so nothing matches; use a header of your own",
        )
    if any(not " " <= char <= "~" for char in header.value):
        yield _problem(f"{path}.value", "HeaderValueRefused", "has characters outside printable ASCII")
    elif header.type == "RegularExpression":
        why = why_refused(header.value)
        if why is not None:
            yield _problem(
                f"{path}.value",
                "RegularExpressionRefused",
                f"the expression {why}; write it in RE2's basic syntax, or use Exact",
            )


def _identity_problems(path: str, name: str) -> Iterator[Finding]:
    if is_owned_header(name):
        yield _problem(
            path, "HeaderReserved", f"the router removes {name} from requests; use a header of your own"
        )
    elif name.lower() in SECRET_HEADERS:
        yield _problem(
            path, "HeaderSecret", f"{name} carries a secret, and identities appear in metrics and logs"
        )
    elif not all(char.isascii() and (char.isalnum() or char in "-_") for char in name):
        yield _problem(
            path, "HeaderNameRefused", "use letters, digits, - and _ in the names of identity headers"
        )


def _problem(path: str, reason: str, message: str) -> Finding:
    return Finding(path=path, reason=reason, message=message)
