"""Recorded agent sessions through a stack, with a live view of what its pods and programs do meanwhile."""

import asyncio
import contextlib
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gain.figures import Open, Outcome, outcome
from benchmarks.gain.workload import Scaling, scaled
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

__all__ = ["Load", "Traffic"]

TRACES = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
_REFRESH_S = 1.0
#: A line where nothing can be drawn over: a log.
_PLAIN_EVERY_S = 15.0
_PLAIN_WIDTH = 110
_MODEL = "qwen3-0.6b"
#: A turn that runs when the time is over is dropped, and its task counts with its age.
_STOP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How the recorded sessions are sent.

    Attributes:
        scaling: tokens and gaps, divided by one number; the examples' context bounds the former.
        live: sessions of each program at the same time.
        seed: of the words: the same sessions with another seed meet nothing in a cache that they left before.
    """

    scaling: Scaling
    live: int
    duration_s: float
    seed: int = 1


@dataclass(slots=True)
class _Seen:
    """One program's turns so far."""

    running: dict[tuple[str, str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    ended: list[TurnRecord] = field(default_factory=list)

    def see(self, event: Event) -> None:
        if isinstance(event, TurnStarted):
            self.running[event.program, event.session, event.turn].append(time.monotonic())
        if isinstance(event, TurnEnded):
            if event.record.kind == "turn":  # side requests do not tell when they start
                self.running[event.record.key].pop(0)
            self.ended.append(event.record)

    def row(self, name: str) -> tuple[str, ...]:
        first = [r.first_token_s for r in self.ended if r.first_token_s is not None]
        prompt = sum(r.usage.prompt for r in self.ended if r.usage)
        cached = sum(r.usage.cached or 0 for r in self.ended if r.usage)
        return (
            name,
            str(len(self.ended)),
            str(sum(map(len, self.running.values()))),
            str(sum(bool(r.error) for r in self.ended)),
            f"{percentile(first, 50):.2f} s" if first else "-",
            f"{100 * cached / prompt:.0f} %" if prompt else "-",
        )


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Two programs on one stack."""

    cluster: ControlPlane
    namespace: str
    stack: str
    _seen: dict[str, _Seen] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """The stack's Service, reachable from this machine."""
        service = self.cluster.get("service", self.stack, "-n", self.namespace)
        return f"http://{service['spec']['clusterIP']}"

    def run(self, load: Load, *, look: Callable[[], str] | None = None, tables: bool = True) -> Outcome:
        """Replay, show it live, and print what came of each program.

        Args:
            look: what to print in the middle.

        Raises:
            SystemExit: turns failed for good.
        """
        programs = scaled(read(TRACES), load.scaling)
        began_s = time.monotonic()
        reports = asyncio.run(self._run(programs, load, look))
        for name, report in reports.items():
            if tables:
                print(f"\nprogram {name}\n{text(report)}")
        failed: Counter[str] = Counter()
        for report in reports.values():
            failed.update(report.summary["errors"])
        if failed:
            raise SystemExit(f"turns failed: {dict(failed)}")
        still = [
            Open(*key, since_s - began_s)
            for seen in self._seen.values()
            for key, times in seen.running.items()
            for since_s in times
        ]
        records = [record for report in reports.values() for record in report.records]
        return outcome(programs, records, still, load.duration_s)

    async def _run(
        self, programs: Sequence[Program], load: Load, look: Callable[[], str] | None
    ) -> dict[str, Report]:
        # People's sessions as Codex sends them, and a pipeline that says by a header what it is. The upstream picker
        # reads Chat Completions, so both speak that.
        half = len(programs) // 2
        pipeline = (("x-pipeline", "nightly-review"),)
        parts: dict[str, tuple[Sequence[Program], Options]] = {
            "codex": (programs[:half], self._options(load, client="codex")),
            "nightly-review": (
                programs[half:],
                self._options(load, client="opencode", headers=pipeline),
            ),
        }
        self._seen = {name: _Seen() for name in parts}
        console = Console()
        showing = [asyncio.create_task(self._show(console))]
        if look is not None:
            showing.append(asyncio.create_task(_later(look, load.duration_s * 0.6, console)))
        try:
            found = await asyncio.gather(
                *(replay(p, o, on_event=self._seen[name].see) for name, (p, o) in parts.items())
            )
        finally:
            for task in showing:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        return dict(zip(parts, found, strict=True))

    def _options(self, load: Load, **more: object) -> Options:
        fixed: dict[str, object] = {
            "endpoint": self.endpoint,
            "model": _MODEL,
            "api": "chat",
            "max_output_tokens": 64,
            "max_gap_s": 3600.0,  # they are scaled already
            "concurrency": load.live,
            "duration_s": load.duration_s,
            "stop_s": _STOP_S,
            "seed": load.seed,
        }
        return Options(**{**fixed, **more})  # type: ignore[arg-type]  # names and types are Options' own

    async def _show(self, console: Console) -> None:
        if not console.is_terminal:
            plain = Console(width=_PLAIN_WIDTH)
            while True:
                await asyncio.sleep(_PLAIN_EVERY_S)
                plain.print(await asyncio.to_thread(self._view))
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


async def _later(look: Callable[[], str], after_s: float, console: Console) -> None:
    """Something to read while it happens."""
    await asyncio.sleep(after_s)
    console.print(await asyncio.to_thread(look), markup=False, highlight=False)
