"""A plan as text, JSON, and the Kubernetes objects that carry it out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan
from statistics import fmean
from typing import Any

from agentic_serving.api.quantities import format_bytes
from agentic_serving.capacity.pool import lookup_profile
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.cli.output import data, documents, table
from agentic_serving.names import API_VERSION, MAX_STACK_NAME
from agentic_serving.simulation.equipment import HOST_BYTES_PER_S, TRANSFER_BYTES_PER_S, Equipment, Hardware
from agentic_serving.simulation.planner import Choice, Plan, Trial
from agentic_serving.simulation.report import finite

__all__ = ["Outcome", "curve", "size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A plan and what it rests on.

    Attributes:
        most: the largest fleet that was to be tried.
        routing: a sentence on routers.
        floor: the objective's figure without any contention, which no fleet undercuts; 0: not known.
        name: of the objects; None: from the model's.
        about: how it was made, as plain values.
    """

    plan: Plan
    equipment: Equipment
    interrupted: bool
    most: int
    floor: float
    routing: str
    name: str | None
    about: Mapping[str, Any]

    @property
    def failure(self) -> str:
        """Why there is no answer."""
        objective = self.plan.objective
        if self.floor > objective.limit:
            return (
                f"no fleet can have a {objective.figure} of {objective.limit:g}{objective.unit}: alone on a replica "
                f"that forgets nothing it is {self.floor:.4g}{objective.unit}"
            )
        return (
            f"no fleet of up to {self.most} replicas has a {objective.figure} of {objective.limit:g}{objective.unit} "
            "or less: see the curve"
        )

    def show(self, output: str) -> str:
        """As text, JSON, or YAML objects (nothing without an answer)."""
        if output == "json":
            return data(self._data(), "json")
        if output == "yaml":
            return documents(self.objects(), "yaml")
        return self._text()

    def objects(self) -> list[dict[str, Any]]:
        """The stack of the recommended fleet, and its policy where it has host memory; without an answer none."""
        best, hardware = self.plan.recommended, self.equipment.hardware
        if best is None or hardware is None:
            return []
        return _objects(best.choice, hardware, self.name or _name_of(hardware.model), self.equipment)

    def _data(self) -> dict[str, Any]:
        objective, best = self.plan.objective, self.plan.recommended
        smaller = None if best is None else self.plan.next_smaller(best)
        found = {
            "objective": {"figure": objective.figure, "percent": objective.percent, "limit": objective.limit},
            "complete": not self.interrupted,
            "floor": self.floor,
            "recommended": None if best is None else _trial(best),
            "nextSmaller": None if smaller is None else _trial(smaller),
            "smallestOfEach": [_trial(one) for one in self.plan.found],
            "curve": [_trial(one) for one in self.plan.trials],
            "objects": self.objects(),
            **self.about,
        }
        plain: dict[str, Any] = finite(found)
        return plain

    def _text(self) -> str:
        objective = self.plan.objective
        rows = [_row(one, objective.unit) for one in self.plan.trials]
        header = ("fleet", objective.figure, "within", "recomputed", "longest hold", "unfinished", "meets")
        return "\n".join(
            (
                *self._answer(),
                *(("", table(header, rows)) if rows else ()),
                "",
                "It rests on:",
                *(f"- {a}" for a in self._rests_on()),
            )
        )

    def _answer(self) -> list[str]:
        objective, best = self.plan.objective, self.plan.recommended
        limit = f"{objective.limit:g}{objective.unit}"
        if self.interrupted:
            return ["INTERRUPTED: no recommendation; what was simulated:"]
        if best is None:
            return [f"No answer: {self.failure}."]
        lines = [f"Recommended: {size(best.choice)}{_devices(best.choice, self.equipment)}"]
        lines.append(f"  {_told(best, objective.figure, objective.unit)}; the objective is {limit}")
        smaller = self.plan.next_smaller(best)
        if smaller is None:
            lines.append("  There is no smaller one.")
        else:
            times = smaller.verdict.value / objective.limit
            lines.append(f"Next smaller: {size(smaller.choice)}{_devices(smaller.choice, self.equipment)}")
            lines.append(
                f"  {_told(smaller, objective.figure, objective.unit)}: {times:.2f} times the objective"
            )
        others = [one for one in self.plan.found if one is not best]
        return [*lines, *(f"Also meets it: {size(one.choice)}" for one in others)]

    def _rests_on(self) -> list[str]:
        found = list(self.equipment.assumptions)
        counted = max((one.verdict.n // len(one.samples) for one in self.plan.trials), default=0)
        if counted and self.plan.objective.thin(counted):
            found.append(
                f"{counted} values a seed: the {self.plan.objective.figure} hangs on fewer than five of them; "
                "a longer trace says more."
            )
        if self.floor:
            unit = self.plan.objective.unit
            found.append(
                f"Alone on a replica that forgets nothing, the figure would be {self.floor:.4g}{unit}."
            )
        found.append(f"Policy: {self.about['policy']}. Load: {_load(self.about['load'])}.")
        shapes = [one.choice.shape for one in self.plan.trials]
        if any(shape.host_bytes for shape in shapes):
            found.append(f"Host memory: {HOST_BYTES_PER_S / 1e9:g} GB/s each way per replica, an assumption.")
        if any(shape.prefill for shape in shapes):
            found.append(
                f"Prefill apart: {TRANSFER_BYTES_PER_S / 1e9:g} GB/s into each decode replica, an assumption."
            )
        found.append(f"{self.routing} Room for failures and growth is not in it.")
        return found


def curve(plan: Plan) -> dict[str, list[tuple[int, float]]]:
    """Shares within the limit over replicas, by host memory."""
    found: dict[str, list[tuple[int, float]]] = {}
    for one in plan.trials:
        n_bytes = one.choice.shape.host_bytes
        shape = one.choice.shape
        apart = f"prefill:decode {shape.prefill}:{shape.replicas}, " if shape.prefill else ""
        label = apart + (f"host memory {format_bytes(n_bytes)}" if n_bytes else "no host memory")
        found.setdefault(label, []).append((one.choice.total, one.verdict.within))
    return found


def size(choice: Choice) -> str:
    """`3 replicas, 100Gi of host memory each`."""
    told = f"{choice.total} replica{'' if choice.total == 1 else 's'}"
    if choice.prefill:
        told += f" ({choice.prefill} prefill, {choice.replicas} decode)"
    n_bytes = choice.shape.host_bytes
    return f"{told}, {format_bytes(n_bytes)} of host memory each" if n_bytes else told


def _devices(choice: Choice, equipment: Equipment) -> str:
    hardware = equipment.hardware
    return "" if hardware is None else f" ({choice.total * hardware.tensor} x {hardware.accelerator})"


def _told(one: Trial, figure: str, unit: str) -> str:
    verdict = one.verdict
    return f"{figure} {verdict.value:.4g}{unit}, {100 * verdict.within:.1f} % of {verdict.n} within it"


def _load(load: Mapping[str, Any]) -> str:
    if "livePrograms" in load:
        return f"{load['livePrograms']} programs at a time"
    return (
        f"{load['programsPerSecond']:g} programs/s, at random"
        if "programsPerSecond" in load
        else "arrivals as recorded"
    )


def _row(one: Trial, unit: str) -> tuple[str, ...]:
    verdict = one.verdict
    return (
        size(one.choice),
        "-" if isnan(verdict.value) else f"{verdict.value:.4g}{unit}",
        "-" if isnan(verdict.within) else f"{100 * verdict.within:.1f} %",
        f"{100 * fmean(sample.recompute_share for sample in one.samples):.1f} %",
        f"{max(sample.held_s for sample in one.samples):.1f} s",
        str(sum(sample.unfinished_tasks for sample in one.samples)),
        "yes" if verdict.met else "no",
    )


def _trial(one: Trial) -> dict[str, Any]:
    return {
        "replicas": one.choice.total,
        "prefill": one.choice.prefill,
        "hostMemoryBytes": one.choice.shape.host_bytes,
        "meets": one.verdict.met,
        "value": one.verdict.value,
        "within": one.verdict.within,
        "n": one.verdict.n,
        "recomputeShare": fmean(sample.recompute_share for sample in one.samples),
        "longestHoldSeconds": max(sample.held_s for sample in one.samples),
        "unfinishedTasks": sum(sample.unfinished_tasks for sample in one.samples),
    }


def _name_of(model: str) -> str:
    """A DNS label from a repository's name."""
    label = re.sub(r"[^a-z0-9]+", "-", model.rsplit("/", 1)[-1].lower()).strip("-")
    return (label if label[:1].isalpha() else f"model-{label}")[:MAX_STACK_NAME].rstrip("-")


def _objects(choice: Choice, hardware: Hardware, name: str, equipment: Equipment) -> list[dict[str, Any]]:
    model = lookup_profile(hardware.model)
    repository = model.name if isinstance(model, ModelProfile) else hardware.model
    spec: dict[str, Any] = {
        "model": {"name": repository, "source": {"huggingFace": {"repository": repository}}},
        "accelerator": {"preset": hardware.accelerator},
        "topology": _topology(choice, hardware),
        "engine": {"args": _arguments(equipment)},
    }
    stack = _object("AgenticServingStack", name, spec)
    if not choice.shape.host_bytes:
        return [stack]
    spec["kvTierPolicyRef"] = {"name": name}
    tier = {"backend": "Native", "capacityPerReplica": format_bytes(choice.shape.host_bytes)}
    return [stack, _object("KVTierPolicy", name, {"hostMemory": tier})]


def _topology(choice: Choice, hardware: Hardware) -> dict[str, Any]:
    spread = {"parallelism": {"tensor": hardware.tensor}} if hardware.tensor > 1 else {}
    if not choice.prefill:
        return {"aggregated": {"replicas": choice.replicas, **spread}}
    prefill, decode = {"replicas": choice.prefill, **spread}, {"replicas": choice.replicas, **spread}
    return {"disaggregated": {"prefill": prefill, "decode": decode}}


def _arguments(equipment: Equipment) -> list[str]:
    """Said although they may be the engine's own defaults, which depend on its version and devices."""
    limits = equipment.limits
    return [f"--max-num-seqs={limits.max_seqs}", f"--max-num-batched-tokens={limits.max_batched_tokens}"]


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
