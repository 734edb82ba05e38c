"""Why Envoy's configuration is as it is: what `explain` shows."""

from typing import Literal

from agentic_serving.api.matching import Ordering
from agentic_serving.api.rules import Rule

__all__ = ["envoy_rules"]

_SCHEDULER = Rule(
    id="envoy/scheduler",
    reason="The program scheduler sees each request before the picker does. If it says nothing within a second the request goes on without it.",
    source="spec.programScheduling.mode; Envoy ext_proc failure_mode_allow",
)


def envoy_rules(
    ordering: Ordering, *, request_s: int, connection_s: int, scheduler: Literal["Enforce", "Observe", "Off"]
) -> tuple[Rule, ...]:
    """In the order of the configuration. `request_s`, `connection_s`: how long a request and a connection may last."""
    order = ", then ".join([program.name for program in ordering.programs] + ["default"])
    return (
        Rule(
            id="envoy/edge",
            reason="Headers that only the router may set are removed from every request before anything reads them.",
            source="llm-d docs/api-reference/epp-http-headers.md, trust boundary",
        ),
        Rule(
            id="envoy/programs",
            reason=f"Requests belong to the first program that matches: {order}.",
            source="AgentProgram spec.match",
        ),
        Rule(
            id="envoy/timeouts",
            reason=f"A request may take {request_s} s, queueing included; Envoy's default is 15 s.",
            source="spec.router.requestTimeout"
            + (", AgentProgram spec.objective.maxHold" if scheduler == "Enforce" else ""),
        ),
        Rule(
            id="envoy/connections",
            reason=f"After {connection_s} s a connection is closed behind its last answer: clients keep connections "
            "for as long as they talk, and one that is held to a router pod which has left the Service would be cut at its end.",
            source="spec.disruption.drainTimeout; Envoy common_http_protocol_options.max_connection_duration",
        ),
        *(() if scheduler == "Off" else (_SCHEDULER,)),
        Rule(
            id="envoy/picker",
            reason="The picker sees each request, names the pod in a header, and Envoy sends the request there.",
            source="llm-d-router v0.10.0 docs/architecture.md",
        ),
    )
