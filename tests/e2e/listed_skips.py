"""A pytest plugin for CI: prints every skip, and fails the run on one that nobody listed.

A test that is skipped without anybody noticing proves nothing. What may be skipped is what needs a program that is
not on any package registry; whoever has built it names it by an environment variable.

    pytest -p tests.e2e.listed_skips tests/e2e/dataplane
"""

import re
from collections import Counter

import pytest

__all__ = ["LISTED", "is_listed"]

#: Reasons that are known, as regular expressions at their beginning.
LISTED: tuple[str, ...] = (
    r"llm-d's (endpoint )?picker: set AGENTIC_E2E_LLMD_EPP",
    r"llm-d's P/D sidecar: set AGENTIC_E2E_LLMD_SIDECAR",
    r"llm-d's simulator: set AGENTIC_E2E_LLMD_SIM",
)

_seen: Counter[str] = Counter()


def is_listed(reason: str) -> bool:
    """Whether a skip with this reason is expected where nothing but the registries can be reached."""
    return any(re.match(pattern, reason) for pattern in LISTED)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _unlisted() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, count in sorted(_seen.items()):
        known = "listed" if is_listed(reason) else "NOT LISTED in tests/e2e/listed_skips.py"
        terminalreporter.write_line(f"skipped {count} ({known}): {reason}")
    if _unlisted():
        terminalreporter.write_line("a skip that is not listed fails the run", red=True)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and isinstance(report.longrepr, tuple):
        _seen[report.longrepr[2].removeprefix("Skipped: ")] += 1


def _unlisted() -> list[str]:
    return [reason for reason in _seen if not is_listed(reason)]
