"""Recording rules and alerts as a PrometheusRule: burn rates over several windows, and what keeps the scheduler from its work.

Source of windows and factors: Google, The Site Reliability Workbook, chapter 5, table 5-8. Its factors are for budgets of
some percent. A P50 objective may miss half of its tasks, so no factor above 2 can ever be reached; each threshold is
therefore bounded halfway between the budget and all: (1 + budget) / 2 of what completes.
"""

from dataclasses import dataclass
from typing import Any

from deploy.monitoring.panels import STACK_LABEL

__all__ = ["prometheus_rule"]

Json = dict[str, Any]

_BY = f"namespace, {STACK_LABEL}, program, objective"
_WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
#: Fewer say nothing about a share.
_LEAST_COMPLETED = 10
_STACK = f"{{{{ $labels.namespace }}}}/{{{{ $labels.{STACK_LABEL} }}}}"


@dataclass(frozen=True, slots=True)
class _Burn:
    factor: float
    long: str
    short: str
    severity: str


_BURNS = (
    _Burn(14.4, "1h", "5m", "critical"),
    _Burn(6, "6h", "30m", "critical"),
    _Burn(3, "1d", "2h", "warning"),
    _Burn(1, "3d", "6h", "warning"),
)


def prometheus_rule() -> Json:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "agentic-serving",
            "labels": {"app.kubernetes.io/name": "agentic-serving-operator"},
        },
        "spec": {
            "groups": [
                {
                    "name": "agentic-serving.objectives",
                    "interval": "30s",
                    "rules": [*_recorded(), *_burning()],
                },
                {"name": "agentic-serving.scheduler", "interval": "30s", "rules": list(_scheduler())},
            ]
        },
    }


def _recorded() -> list[Json]:
    rules = [
        {
            "record": f"agentic_serving:objective_missed:ratio_rate{window}",
            "expr": f'sum by ({_BY}) (rate(agentic_serving_objective_results_total{{result="missed"}}[{window}])) / '
            f"sum by ({_BY}) (rate(agentic_serving_objective_results_total[{window}]))",
        }
        for window in _WINDOWS
    ]
    budget = f"1 - max by ({_BY}) (agentic_serving_objective_ratio)"
    return [*rules, {"record": "agentic_serving:objective_budget:ratio", "expr": budget}]


def _burning() -> list[Json]:
    return [_burn(burn) for burn in _BURNS]


def _burn(burn: _Burn) -> Json:
    budget = "agentic_serving:objective_budget:ratio"
    bound = f"(({burn.factor:g} * {budget} < (1 + {budget}) / 2) or ((1 + {budget}) / 2))"
    completed = f"sum by ({_BY}) (increase(agentic_serving_objective_results_total[{burn.long}]))"
    above = [
        f"agentic_serving:objective_missed:ratio_rate{window} > {bound}" for window in (burn.long, burn.short)
    ]
    return {
        "alert": "AgenticServingObjectiveBurning",
        "expr": f"({above[0]}) and ({above[1]}) and ({completed} >= {_LEAST_COMPLETED})",
        "labels": {"severity": burn.severity, "window": burn.long},
        "annotations": {
            "summary": f"Program {{{{ $labels.program }}}} of {_STACK} misses its {{{{ $labels.objective }}}} objective.",
            "description": f"{{{{ $value | humanizePercentage }}}} of what completed in {burn.long} missed its target, and it goes "
            f"on: {burn.factor:g} times what the objective allows, or more than half of what it allows to none. "
            "`agentic-serving top` shows what is held and why; the dashboard, where the time goes.",
        },
    }


def _scheduler() -> list[Json]:
    by = f"namespace, {STACK_LABEL}"
    return [
        _alert(
            "AgenticServingSchedulerNotActive",
            f"max by ({by}) (agentic_serving_active) == 0",
            "5m",
            "warning",
            "No scheduler of {stack} decides.",
            "Calls go to the picker without program scheduling. kubectl describe astack says why (SchedulerHealthy).",
        ),
        _alert(
            "AgenticServingTwoActiveSchedulers",
            f"sum by ({by}) (agentic_serving_active) > 1",
            "2m",
            "warning",
            "Several schedulers of {stack} decide at the same time.",
            "Each knows a part of the sessions only. One lost its Lease and does not know: restart its pod.",
        ),
        _alert(
            "AgenticServingConfigNotRead",
            f"min by ({by}) (agentic_serving_config_last_reload_successful) == 0",
            "5m",
            "warning",
            "The scheduler of {stack} cannot read its newest configuration.",
            "An older one holds: changes of programs and policies have no effect. The scheduler's log names the field.",
        ),
        _alert(
            "AgenticServingStateStoreUnavailable",
            f"min by ({by}) (agentic_serving_state_healthy) == 0",
            "5m",
            "warning",
            "The scheduler of {stack} cannot use its Valkey.",
            "It schedules with what it knows, and a restart forgets that. kubectl describe astack says why (SchedulerHealthy).",
        ),
        _alert(
            "AgenticServingSchedulerErrors",
            f"sum by ({by}, part) (rate(agentic_serving_errors_total[5m])) > 0",
            "10m",
            "warning",
            "The scheduler of {stack} fails inside, in {{{{ $labels.part }}}}.",
            "Calls go on without it. Its log has the error.",
        ),
        _alert(
            "AgenticServingHoldQueueFull",
            f'sum by ({by}) (rate(agentic_serving_decisions_total{{verdict="Refuse", reason="QueueFull"}}[5m])) > 0',
            "5m",
            "critical",
            "{stack} refuses calls: the queue of held turns is full.",
            "Clients get 429 with Retry-After. The stack is far above its capacity: add replicas, or lower maxHold.",
        ),
        _alert(
            "AgenticServingUsageMissing",
            f"sum by ({by}) (rate(agentic_serving_usage_estimated_total[30m])) > "
            f'0.1 * sum by ({by}) (rate(agentic_serving_turns_total{{outcome="Answered"}}[30m]))',
            "30m",
            "warning",
            "Engines of {stack} do not report the usage of more than a tenth of the turns.",
            "The ledger lives on guesses. Rendered engines always report it: is the access log service reached, is an "
            "argument of the engine overridden?",
        ),
    ]


def _alert(name: str, expr: str, lasts: str, severity: str, summary: str, description: str) -> Json:
    return {
        "alert": name,
        "expr": expr,
        "for": lasts,
        "labels": {"severity": severity},
        "annotations": {
            "summary": summary.replace("{{{{", "{{").replace("}}}}", "}}").replace("{stack}", _STACK),
            "description": description,
        },
    }
