"""What the dashboard shows: the one source of the Grafana dashboard and of docs/images/dashboard.png.

`$sel` stands for the stack's labels, `$prog` for those and the chosen programs; both become Grafana's variables.
"""

from dataclasses import dataclass

__all__ = ["PROGRAM", "ROWS", "STACK", "Panel", "Query", "Row"]

#: The Prometheus operator makes these of a PodMonitor's pods (render/monitoring.py, podTargetLabels).
STACK_LABEL = "agentic_serving_dev_stack"
STACK = f'namespace="$namespace", {STACK_LABEL}="$stack"'
PROGRAM = f'{STACK}, program=~"$program"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """PromQL, and what its series are called (`{{label}}`)."""

    expr: str
    legend: str = ""

    def filled(self) -> str:
        """With Grafana's own variables in the places of `$sel` and `$prog`."""
        return self.expr.replace("$sel", STACK).replace("$prog", PROGRAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A graph over time.

    Attributes:
        unit: Grafana's: s, percentunit, short, ops, bytes, none.
        width: of 24.
        stacked: areas on one another, where the sum means something.
        least, most: of the axis; None: as the data says.
    """

    title: str
    help: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 8
    stacked: bool = False
    least: float | None = 0.0
    most: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


def _quantile(q: float, name: str, by: str, selector: str, legend: str) -> Query:
    rate = f"sum by (le, {by}) (rate(agentic_serving_{name}_bucket{{{selector}}}[$__rate_interval]))"
    return Query(expr=f"histogram_quantile({q}, {rate})", legend=legend)


def _rate(name: str, by: str, selector: str = "$prog") -> str:
    return f"sum by ({by}) (rate(agentic_serving_{name}{{{selector}}}[$__rate_interval]))"


def _missed(window: str) -> str:
    missed = f'rate(agentic_serving_objective_results_total{{$prog, result="missed"}}[{window}])'
    every = f"rate(agentic_serving_objective_results_total{{$prog}}[{window}])"
    return f"sum by (program, objective) ({missed}) / sum by (program, objective) ({every})"


_BUDGET = "(1 - max by (program, objective) (agentic_serving_objective_ratio{$prog}))"

FEEL = Row(
    title="What users feel",
    panels=(
        Panel(
            title="Task completion, p50 and p95",
            help="From a person's message to the answer that calls no tool.",
            unit="s",
            queries=(
                _quantile(0.5, "task_completion_seconds", "program", "$prog", "{{program}} p50"),
                _quantile(0.95, "task_completion_seconds", "program", "$prog", "{{program}} p95"),
            ),
        ),
        Panel(
            title="Objective attainment, 1 h",
            help="Share of what completed that met its target.",
            unit="percentunit",
            least=None,
            most=1.0,
            queries=(Query(expr=f"1 - ({_missed('1h')})", legend="{{program}} {{objective}}"),),
        ),
        Panel(
            title="Burn rate of the error budget",
            help="1: the budget lasts exactly as long as the objective's period. 14.4 in both windows pages.",
            queries=(
                Query(expr=f"({_missed('5m')}) / {_BUDGET}", legend="{{program}} {{objective}} 5m"),
                Query(expr=f"({_missed('1h')}) / {_BUDGET}", legend="{{program}} {{objective}} 1h"),
            ),
        ),
        Panel(
            title="Slowdown of tasks, p50 and p95",
            help="Completion, divided by what the task would have taken without contention.",
            least=1.0,
            queries=(
                _quantile(0.5, "task_slowdown_ratio", "program", "$prog", "{{program}} p50"),
                _quantile(0.95, "task_slowdown_ratio", "program", "$prog", "{{program}} p95"),
            ),
        ),
        Panel(
            title="First token, p95, by kind of turn",
            help="From the arrival of a call to its answer's first token; holds are part of it.",
            unit="s",
            queries=(_quantile(0.95, "turn_first_token_seconds", "kind", "$prog", "{{kind}}"),),
        ),
        Panel(
            title="Turns by outcome",
            help="Failed: no answer. Refused: the queue's bound was reached.",
            unit="ops",
            stacked=True,
            queries=(Query(expr=_rate("turns_total", "outcome"), legend="{{outcome}}"),),
        ),
    ),
)

DECISIONS = Row(
    title="Decisions",
    panels=(
        Panel(
            title="Held and in flight",
            help="Turns that wait in the scheduler, and those that were let go and have not ended.",
            queries=(
                Query(expr="sum(agentic_serving_held_turns{$sel})", legend="held"),
                Query(expr="sum(agentic_serving_in_flight_turns{$sel})", legend="in flight"),
            ),
        ),
        Panel(
            title="Hold time, p95, by reason",
            help="How long held turns waited, by why.",
            unit="s",
            queries=(_quantile(0.95, "hold_seconds", "reason", "$prog", "{{reason}}"),),
        ),
        Panel(
            title="Holds by reason",
            help="In Observe: what would have been held.",
            unit="ops",
            stacked=True,
            queries=(
                Query(expr=_rate("decisions_total", "reason", '$prog, verdict="Hold"'), legend="{{reason}}"),
            ),
        ),
        Panel(
            title="Admissions by reason",
            help="Why turns go where they go.",
            unit="ops",
            stacked=True,
            queries=(
                Query(expr=_rate("decisions_total", "reason", '$prog, verdict="Admit"'), legend="{{reason}}"),
            ),
        ),
        Panel(
            title="Placement",
            help="asked: the replica that we named answered. elsewhere: another did. picker: we named none.",
            unit="ops",
            stacked=True,
            queries=(Query(expr=_rate("placements_total", "result", "$sel"), legend="{{result}}"),),
        ),
        Panel(
            title="Gaps between turns, p50",
            help="How long sessions are away, by what they do.",
            unit="s",
            queries=(_quantile(0.5, "gap_seconds", "program, kind", "$prog", "{{program}} {{kind}}"),),
        ),
    ),
)

REUSE = Row(
    title="Reuse",
    panels=(
        Panel(
            title="Recomputed share of prompt tokens, by cause",
            help="Tokens that had been computed before, and were computed again.",
            unit="percentunit",
            stacked=True,
            queries=(
                Query(
                    expr=f"{_rate('recomputed_tokens_total', 'cause')} / on () group_left () "
                    "sum(rate(agentic_serving_prompt_tokens_total{$prog}[$__rate_interval]))",
                    legend="{{cause}}",
                ),
            ),
        ),
        Panel(
            title="Cached share of prompt tokens",
            help="As engines report it.",
            unit="percentunit",
            most=1.0,
            queries=(
                Query(
                    expr=f"{_rate('cached_tokens_total', 'program')} / {_rate('prompt_tokens_total', 'program')}",
                    legend="{{program}}",
                ),
            ),
        ),
        Panel(
            title="Error of the predicted reuse",
            help="Predicted less reported cached tokens, without sign, as a share of the prompt.",
            unit="percentunit",
            queries=(
                _quantile(0.5, "reuse_prediction_error_ratio", "program", "$prog", "{{program}} p50"),
                _quantile(0.95, "reuse_prediction_error_ratio", "program", "$prog", "{{program}} p95"),
            ),
        ),
    ),
)

REPLICAS = Row(
    title="Replicas",
    panels=(
        Panel(
            title="Needed state, of capacity",
            help="Above 1, what sessions will ask for again does not fit: somebody recomputes, or waits.",
            unit="percentunit",
            queries=(
                Query(
                    expr="max by (replica) (agentic_serving_replica_needed_tokens{$sel}) / "
                    "max by (replica) (agentic_serving_replica_capacity_tokens{$sel})",
                    legend="{{replica}}",
                ),
            ),
        ),
        Panel(
            title="Held state, of capacity",
            help="What the ledger believes to lie in each KV cache.",
            unit="percentunit",
            queries=(
                Query(
                    expr="max by (replica) (agentic_serving_replica_held_tokens{$sel}) / "
                    "max by (replica) (agentic_serving_replica_capacity_tokens{$sel})",
                    legend="{{replica}}",
                ),
            ),
        ),
        Panel(
            title="Sessions at home",
            help="Sessions that live on each replica.",
            stacked=True,
            queries=(
                Query(
                    expr="max by (replica) (agentic_serving_replica_residents{$sel})", legend="{{replica}}"
                ),
            ),
        ),
    ),
)

HEALTH = Row(
    title="The scheduler itself",
    panels=(
        Panel(
            title="Active schedulers, runs, sessions",
            help="Exactly one scheduler of a stack is active.",
            width=6,
            queries=(
                Query(expr="sum(agentic_serving_active{$sel})", legend="active schedulers"),
                Query(expr="sum(agentic_serving_runs{$sel})", legend="runs"),
                Query(expr="sum(agentic_serving_sessions{$sel})", legend="sessions"),
            ),
        ),
        Panel(
            title="What went wrong inside",
            help="Each of these lets calls go on without us.",
            unit="ops",
            width=6,
            queries=(
                Query(expr=_rate("errors_total", "part", "$sel"), legend="error in {{part}}"),
                Query(
                    expr="sum(rate(agentic_serving_bodies_not_parsed_total{$sel}[$__rate_interval]))",
                    legend="bodies not parsed",
                ),
                Query(
                    expr="sum(rate(agentic_serving_usage_estimated_total{$prog}[$__rate_interval]))",
                    legend="usage estimated",
                ),
            ),
        ),
        Panel(
            title="Memory",
            help="Of the scheduler's process, and of it what held turns keep.",
            unit="bytes",
            width=6,
            queries=(
                Query(
                    expr="max by (pod) (process_resident_memory_bytes{$sel} and on (namespace, pod) agentic_serving_active{$sel})",
                    legend="{{pod}}",
                ),
                Query(expr="sum(agentic_serving_held_bytes{$sel})", legend="held turns"),
            ),
        ),
        Panel(
            title="CPU",
            help="Cores that the scheduler's process uses; one is all that it can.",
            width=6,
            queries=(
                Query(
                    expr="max by (pod) (rate(process_cpu_seconds_total{$sel}[$__rate_interval]) "
                    "and on (namespace, pod) agentic_serving_active{$sel})",
                    legend="{{pod}}",
                ),
            ),
        ),
    ),
)

ROWS = (FEEL, DECISIONS, REUSE, REPLICAS, HEALTH)
