"""Recorded agent sessions through a stack, with a live view of what its pods and programs do meanwhile."""

import asyncio
import contextlib
import sys
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from agentic_serving.replay.driver import replay
from agentic_serving.replay.options import Options
from agentic_serving.replay.records import Event, TurnEnded, TurnRecord, TurnStarted
from agentic_serving.replay.report import Report, percentile
from agentic_serving.replay.table import text
from agentic_serving.workload import Program, read
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.world import metric

__all__ = ["Traffic"]

TRACES = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
_REFRESH_S = 1.0
#: A line where nothing can be drawn over: a log.
_PLAIN_EVERY_S = 10.0
_PLAIN_WIDTH = 110
_MODEL = "qwen3-0.6b"


@dataclass(slots=True)
class _Seen:
    """One program's turns so far."""

    running: int = 0
    ended: list[TurnRecord] = field(default_factory=list)

    def see(self, event: Event) -> None:
        if isinstance(event, TurnStarted):
            self.running += 1
        if isinstance(event, TurnEnded):
            self.running -= event.record.kind == "turn"  # side requests do not tell when they start
            self.ended.append(event.record)

    def row(self, name: str) -> tuple[str, ...]:
        first = [r.first_token_s for r in self.ended if r.first_token_s is not None]
        prompt = sum(r.usage.prompt for r in self.ended if r.usage)
        cached = sum(r.usage.cached or 0 for r in self.ended if r.usage)
        return (
            name,
            str(len(self.ended)),
            str(self.running),
            str(sum(bool(r.error) for r in self.ended)),
            f"{percentile(first, 50):.2f} s" if first else "-",
            f"{100 * cached / prompt:.0f} %" if prompt else "-",
        )


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Two programs on one stack.

    Attributes:
        token_scale: the share of the recorded tokens that is sent.
    """

    cluster: ControlPlane
    namespace: str
    stack: str
    token_scale: float
    _seen: dict[str, _Seen] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """The stack's Service, reachable from this machine."""
        service = self.cluster.get("service", self.stack, "-n", self.namespace)
        return f"http://{service['spec']['clusterIP']}"

    def run(self, duration_s: float) -> None:
        """Replay for so long, show it live, and print what came of each program.

        Raises:
            SystemExit: turns failed for good.
        """
        reports = asyncio.run(self._run(duration_s))
        for name, report in reports.items():
            print(f"\nprogram {name}\n{text(report)}")
        failed: Counter[str] = Counter()
        for report in reports.values():
            failed.update(report.summary["errors"])
        if failed:
            raise SystemExit(f"turns failed: {dict(failed)}")

    async def _run(self, duration_s: float) -> dict[str, Report]:
        programs = read(TRACES)
        # People's sessions as Codex sends them, and a pipeline that says by a header what it is. The upstream picker
        # reads Chat Completions, so both speak that.
        half = len(programs) // 2
        parts: dict[str, tuple[Sequence[Program], Options]] = {
            "codex": (programs[:half], self._options(duration_s, client="codex")),
            "nightly-review": (
                programs[half:],
                self._options(duration_s, client="opencode", headers=(("x-pipeline", "nightly-review"),)),
            ),
        }
        self._seen = {name: _Seen() for name in parts}
        showing = asyncio.create_task(self._show())
        try:
            found = await asyncio.gather(
                *(replay(p, o, on_event=self._seen[name].see) for name, (p, o) in parts.items())
            )
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
        return dict(zip(parts, found, strict=True))

    def _options(self, duration_s: float, **more: object) -> Options:
        fixed: dict[str, object] = {
            "endpoint": self.endpoint,
            "model": _MODEL,
            "api": "chat",
            "token_scale": self.token_scale,
            "max_output_tokens": 64,
            "gap_scale": 0.2,
            "max_gap_s": 3.0,
            "concurrency": 3,
            "duration_s": duration_s,
        }
        return Options(**{**fixed, **more})  # type: ignore[arg-type]  # names and types are Options' own

    async def _show(self) -> None:
        console = Console(stderr=False)
        if not console.is_terminal:
            console = Console(width=_PLAIN_WIDTH)
            while True:
                await asyncio.sleep(_PLAIN_EVERY_S)
                console.print(await asyncio.to_thread(self._view))
                sys.stdout.flush()
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(await asyncio.to_thread(self._view), refresh=True)
                await asyncio.sleep(_REFRESH_S)

    def _view(self) -> Group:
        programs = Table("program", "turns", "running", "failed", "first token p50", "cached", box=None)
        for name, seen in self._seen.items():
            programs.add_row(*seen.row(name))
        pods = Table(
            "engine pod", "running", "waiting", "KV in use", "prompt tokens", "of them cached", box=None
        )
        for name, address in self._engines():
            pods.add_row(name, *_engine_row(address))
        return Group(programs, "", pods, "")

    def _engines(self) -> list[tuple[str, str]]:
        selector = f"agentic-serving.dev/stack={self.stack},app.kubernetes.io/component=engine"
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={selector}"
        items = self.cluster.request("GET", path).json()["items"]
        return [(p["metadata"]["name"], p["status"].get("podIP", "")) for p in items]


def _engine_row(address: str) -> tuple[str, ...]:
    """What an engine says of itself on its metrics page."""
    try:
        with urllib.request.urlopen(f"http://{address}:8000/metrics", timeout=2) as answer:
            page = answer.read().decode()
    except OSError:
        return ("-", "-", "-", "-", "-")
    asked = metric(page, "vllm:prefix_cache_queries_total")
    hit = metric(page, "vllm:prefix_cache_hits_total") + metric(page, "vllm:external_prefix_cache_hits_total")
    return (
        f"{metric(page, 'vllm:num_requests_running'):.0f}",
        f"{metric(page, 'vllm:num_requests_waiting'):.0f}",
        f"{100 * metric(page, 'vllm:kv_cache_usage_perc'):.0f} %",
        f"{asked:,.0f}",
        f"{100 * hit / asked:.0f} %" if asked else "-",
    )
