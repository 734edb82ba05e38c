"""Every metric of the program scheduler, as data: `metrics` makes them, docs/metrics.md lists them, the dashboard asks for them.

Names follow Prometheus' conventions: base units (seconds, tokens, bytes), `_total` on counters. Labels are bounded:
`program` by a cap, `replica` by the pods there are, every other by a fixed set of values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["BY_NAME", "FAMILIES", "Family"]

#: Tasks take from seconds to hours: two buckets an octave up to a minute, then what people name. To 2 h.
_TASK_S = (1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200, 1800, 3600, 7200)
#: A turn: from a cached one-liner to the longest answers.
_TURN_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
#: `maxHold` is 5 min unless a program says otherwise.
_HOLD_S = (0.1, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 180, 300, 600)
#: Tools: milliseconds to minutes; people: seconds to the 30 min after which a run is over.
_GAP_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800)
_SLOWDOWN = (1, 1.1, 1.25, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 100)
_ERROR = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric.

    Attributes:
        name: without the prefix `agentic_serving_`, and as it is exposed.
        read: when somebody asks, not counted; so is every gauge.
    """

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    read: bool = False

    @property
    def full_name(self) -> str:
        return f"agentic_serving_{self.name}"


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name=name, type="counter", help=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name=name, type="gauge", help=text, labels=labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Family:
    return Family(name=name, type="histogram", help=text, labels=labels, buckets=buckets)


FAMILIES: tuple[Family, ...] = (
    # What users feel
    _histogram(
        "task_completion_seconds",
        "From a person's message to the answer that calls no tool.",
        _TASK_S,
        "program",
    ),
    _histogram(
        "task_slowdown_ratio",
        "Completion of a task, divided by what it would have taken without contention.",
        _SLOWDOWN,
        "program",
    ),
    _counter(
        "task_held_seconds_total", "Of the completion of tasks, what their turns waited here.", "program"
    ),
    _histogram("run_completion_seconds", "A run as a whole, without what people took.", _TASK_S, "program"),
    _counter(
        "objective_results_total",
        "What completed, by whether it met its objective (completion, first_token_after_tool).",
        "program",
        "objective",
        "result",
    ),
    _gauge("objective_ratio", "Share that the objective asks for, such as 0.95.", "program", "objective"),
    _gauge("objective_seconds", "Target of the objective.", "program", "objective"),
    # Turns
    _counter(
        "turns_total",
        "Model calls that ended, by outcome (Answered, Failed, ClientLeft, Refused).",
        "program",
        "client",
        "kind",
        "outcome",
    ),
    _counter("calls_total", "Model calls that came, by API.", "api", "client"),
    _histogram(
        "turn_first_token_seconds",
        "From the arrival of a call here to its answer's first token; holds are part of it.",
        _TURN_S,
        "program",
        "kind",
    ),
    _histogram(
        "turn_seconds",
        "From the arrival of a call here to the end of its answer.",
        _TURN_S,
        "program",
        "kind",
    ),
    _histogram(
        "gap_seconds", "Between two turns of a session, by what filled it.", _GAP_S, "program", "kind"
    ),
    # Decisions
    _counter(
        "decisions_total",
        "Decisions by verdict (Admit, Hold, Refuse) and why.",
        "program",
        "verdict",
        "reason",
    ),
    _counter(
        "warm_ups_total",
        "Prompts that a further replica was to compute for sessions that were declared, by outcome (Done, Failed, Refused).",
        "program",
        "outcome",
    ),
    _counter(
        "warm_up_tokens_total",
        "Prompt tokens that warm-ups computed, beside those of turns.",
        "program",
    ),
    _histogram(
        "hold_seconds",
        "How long held turns waited here, by why; in Observe nothing is held.",
        _HOLD_S,
        "program",
        "reason",
    ),
    _counter(
        "placements_total",
        "Answers by where they came from: asked (the replica that we named), elsewhere, or picker (we named none).",
        "result",
    ),
    # Tokens
    _counter("prompt_tokens_total", "Prompt tokens of turns that ended.", "program"),
    _counter("cached_tokens_total", "Of the prompt tokens, those that came from a cache.", "program"),
    _counter("output_tokens_total", "Tokens of answers.", "program"),
    _counter(
        "recomputed_tokens_total",
        "Prompt tokens computed although they had been computed before, by cause.",
        "program",
        "cause",
    ),
    _counter(
        "expected_cached_tokens_total", "Cached tokens that were predicted when turns were let go.", "program"
    ),
    _histogram(
        "reuse_prediction_error_ratio",
        "Predicted less reported cached tokens, without sign, as a share of the prompt.",
        _ERROR,
        "program",
    ),
    _counter(
        "usage_estimated_total", "Turns whose usage nobody reported: their tokens are a guess.", "program"
    ),
    # The desk
    _gauge("runs", "Runs that are not over."),
    _gauge("sessions", "Sessions that are not over."),
    _gauge("in_flight_turns", "Turns that were let go and have not ended."),
    _gauge("held_turns", "Turns that wait here."),
    _gauge("held_bytes", "Bytes that held turns keep in memory."),
    _gauge("replica_capacity_tokens", "KV cache of a replica; absent where nobody knows.", "replica"),
    _gauge("replica_held_tokens", "State that the ledger believes to lie on a replica.", "replica"),
    _gauge("replica_needed_tokens", "Of it, what sessions will probably ask for again.", "replica"),
    _gauge("replica_residents", "Sessions that live on a replica.", "replica"),
    # What engines publish of their caches, with precise routing
    _counter(
        "kv_event_batches_total",
        "Batches of KV events by result (read, unreadable), and how often batches were missed in between (gap).",
        "result",
    ),
    _counter(
        "kv_event_tokens_total",
        "Tokens that engines told of: stored, removed, and stored by others than the turns that this scheduler follows.",
        "event",
    ),
    _counter("kv_event_clears_total", "Caches that were emptied, or whose engine started again."),
    # State that outlives the process
    Family(
        name="state_records_total",
        type="counter",
        help="Records of the state by what happened: written, dropped, restored; and reconnects to the store.",
        labels=("event",),
        read=True,
    ),
    _gauge("state_pending_records", "Records that are not written yet."),
    _gauge("state_lag_seconds", "How long the oldest of them waits."),
    _gauge("state_healthy", "0 while the store cannot be used, 1 else and where there is none."),
    # Health
    _gauge("active", "1 where this scheduler decides, 0 on a standby."),
    _counter("bodies_not_parsed_total", "Bodies that went on unread: past the limit, or not JSON."),
    _counter("errors_total", "Failures inside the scheduler, by part; the call goes on without it.", "part"),
    _counter("config_reloads_total", "Reads of scheduler.json, by result (ok, error).", "result"),
    _gauge(
        "config_last_reload_successful", "0: the newest scheduler.json cannot be read, an older one holds."
    ),
)

BY_NAME: Mapping[str, Family] = {family.name: family for family in FAMILIES}
