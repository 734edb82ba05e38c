"""From turns to figures: completion, slowdown, first token after a tool, cached share, errors; per turn, task and session.

A task runs from a human's message to the answer that calls no tool: its completion includes its tools' gaps and its
sub-agents. Slowdown is completion divided by that of the same turn, task or session in a baseline: a report of the same
replay on an unloaded endpoint (mean over laps). Without a baseline there is none.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import fmean
from typing import Any

from agentic_serving.errors import InvalidInput
from agentic_serving.replay.answers import Usage
from agentic_serving.replay.options import Options
from agentic_serving.replay.records import TurnRecord

__all__ = ["Report", "check_baseline", "from_data", "percentile", "report"]

#: What a baseline must share for its times to be comparable.
_COMPARED = ("model", "tokenScale", "maxOutputTokens", "gapScale", "maxGapSeconds")


@dataclass(frozen=True, slots=True)
class Report:
    """A finished replay: `summary` for people and programs, `records` turn by turn."""

    summary: dict[str, Any]
    records: tuple[TurnRecord, ...]

    @property
    def n_errors(self) -> int:
        """Turns and side requests that failed for good."""
        return sum(self.summary["errors"].values())

    def data(self) -> dict[str, Any]:
        """As JSON: what `from_data` reads."""
        return {**self.summary, "records": [asdict(r) for r in self.records]}


def report(
    records: Iterable[TurnRecord],
    options: Options,
    outline: Mapping[str, Any],
    *,
    baseline: Report | None = None,
) -> Report:
    """Summarise; `check_baseline` was called before."""
    found = tuple(records)
    turns = [r for r in found if r.kind == "turn"]
    summary: dict[str, Any] = {
        "options": _said(options),
        "run": dict(outline),
        "turns": _turns(turns, baseline),
        "tasks": _groups(turns, _by_task, lambda r: r.ends_task, baseline),
        "sessions": _groups(turns, _by_session, lambda r: r.ends_session, baseline),
        "tokens": _tokens(turns),
        "errors": dict(Counter(r.error for r in found if r.error).most_common()),
        "errorDetails": _details(found),
        "retries": dict(Counter(kind for r in found for kind in r.retried).most_common()),
        "sideRequests": len(found) - len(turns),
        "agents": _agents(turns),
    }
    return Report(summary, found)


def check_baseline(options: Options, baseline: Report) -> None:
    """Refuse a baseline whose times cannot be compared.

    Raises:
        InvalidInput: it was made with other options that matter.
    """
    ours, theirs = _said(options), baseline.summary.get("options", {})
    for key in _COMPARED:
        if ours[key] != theirs.get(key):
            told = f"was made with {key} {theirs.get(key)}, this replay has {ours[key]}"
            raise InvalidInput("--baseline", told)


def from_data(data: object, *, name: str) -> Report:
    """A report that was printed as JSON.

    Raises:
        InvalidInput: it is none.
    """
    if not isinstance(data, dict) or not isinstance(data.get("records"), list):
        raise InvalidInput(name, "is not a report of `replay --output json`: it has no records")
    summary = {k: v for k, v in data.items() if k != "records"}
    try:
        records = tuple(_record(r) for r in data["records"])
    except (TypeError, ValueError, KeyError) as error:
        raise InvalidInput(name, f"is not a report of this version: {error}") from None
    return Report(summary, records)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(percent / 100 * len(ordered)) - 1)]


def _record(data: Mapping[str, Any]) -> TurnRecord:
    usage = data["usage"]
    found = {**data, "usage": Usage(**usage) if usage else None, "retried": tuple(data["retried"])}
    return TurnRecord(**found)


def _said(options: Options) -> dict[str, Any]:
    """The options that shape the figures, as they were."""
    return {
        "endpoint": options.endpoint,
        "model": options.model,
        "client": options.client,
        "api": options.api,
        "tokenScale": options.token_scale,
        "maxOutputTokens": options.max_output_tokens,
        "gapScale": options.gap_scale,
        "maxGapSeconds": options.max_gap_s,
        "timeScale": options.time_scale,
        "sessions": options.sessions,
        "concurrency": options.concurrency,
        "durationSeconds": options.duration_s,
        "seed": options.seed,
        "retries": options.retries,
        "timeoutSeconds": options.timeout_s,
    }


def _turns(turns: Sequence[TurnRecord], baseline: Report | None) -> dict[str, Any]:
    good = [r for r in turns if not r.error]
    after_tool = [r for r in good if r.gap_kind == "tool"]
    found: dict[str, Any] = {
        "count": len(turns),
        "failed": len(turns) - len(good),
        "completionSeconds": _spread([r.completion_s for r in good]),
        "firstTokenSeconds": _spread([r.first_token_s for r in good if r.first_token_s is not None]),
        "firstTokenAfterToolSeconds": _spread(
            [r.first_token_s for r in after_tool if r.first_token_s is not None]
        ),
    }
    if baseline is not None:
        alone = _means((r.key, r.completion_s) for r in baseline.records if r.kind == "turn" and not r.error)
        found["slowdown"] = _spread(_ratios(((r.key, r.completion_s) for r in good), alone))
    return found


_Key = tuple[Hashable, ...]


def _groups(
    turns: Sequence[TurnRecord],
    key_of: Callable[[TurnRecord], _Key],
    is_last: Callable[[TurnRecord], bool],
    baseline: Report | None,
) -> dict[str, Any]:
    times, failed, unfinished = _times(turns, key_of, is_last)
    found: dict[str, Any] = {
        "count": len(times) + failed + unfinished,
        "failed": failed,
        "unfinished": unfinished,
        "completionSeconds": _spread([seconds for _, seconds in times]),
    }
    if baseline is not None:
        theirs = [r for r in baseline.records if r.kind == "turn"]
        alone = _means((key[1:], seconds) for key, seconds in _times(theirs, key_of, is_last)[0])
        found["slowdown"] = _spread(_ratios(((key[1:], seconds) for key, seconds in times), alone))
    return found


def _times(
    turns: Sequence[TurnRecord], key_of: Callable[[TurnRecord], _Key], is_last: Callable[[TurnRecord], bool]
) -> tuple[list[tuple[_Key, float]], int, int]:
    """(key, seconds) of each whole group; how many had a failed turn; how many were not over."""
    groups: dict[_Key, list[TurnRecord]] = defaultdict(list)
    for record in turns:
        groups[key_of(record)].append(record)
    times: list[tuple[_Key, float]] = []
    failed = unfinished = 0
    for key, records in groups.items():
        if any(r.error for r in records):
            failed += 1
        elif not any(is_last(r) for r in records):
            unfinished += 1
        else:
            end_s = max(r.started_s + r.completion_s for r in records)
            times.append((key, end_s - min(r.started_s for r in records)))
    return times, failed, unfinished


def _by_task(record: TurnRecord) -> _Key:
    return (record.lap, record.program, record.session, record.task)


def _by_session(record: TurnRecord) -> _Key:
    return (record.lap, record.program, record.session)


def _means(pairs: Iterable[tuple[_Key, float]]) -> dict[_Key, float]:
    values: dict[_Key, list[float]] = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
    return {key: fmean(found) for key, found in values.items()}


def _ratios(pairs: Iterable[tuple[_Key, float]], alone: Mapping[_Key, float]) -> list[float]:
    return [seconds / alone[key] for key, seconds in pairs if alone.get(key, 0) > 0]


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    found = {"count": len(values), "mean": round(fmean(values), 4)}
    return found | {f"p{p}": round(percentile(values, p), 4) for p in (50, 95, 99)}


def _tokens(turns: Sequence[TurnRecord]) -> dict[str, Any]:
    good = [r for r in turns if not r.error]
    known = [(r, r.usage) for r in good if r.usage is not None]
    prompt = sum(u.prompt for _, u in known)
    expected = sum(r.expected_tokens for r, _ in known)
    cached = [u for _, u in known if u.cached is not None]
    return {
        "prompt": prompt,
        "output": sum(u.output for _, u in known),
        "cached": sum(u.cached or 0 for u in cached) if cached else None,
        "cachedSharePercent": _percent(sum(u.cached or 0 for u in cached), sum(u.prompt for u in cached)),
        "expectedPrompt": expected,
        "promptErrorPercent": round(100 * (prompt / expected - 1), 2) if expected else None,
        "withoutUsage": len(good) - len(known),
    }


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _details(records: Sequence[TurnRecord]) -> dict[str, str]:
    """For each kind of error, what the server said the first time."""
    found: dict[str, str] = {}
    for record in records:
        if record.error and record.detail:
            found.setdefault(record.error, record.detail)
    return found


def _agents(turns: Sequence[TurnRecord]) -> dict[str, int]:
    return dict(Counter(r.agent for r in turns).most_common())
