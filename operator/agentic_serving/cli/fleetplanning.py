"""What `plan` does once its options are read: apart, because it needs the `simulate` extra's packages."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentic_serving.api.quantities import parse_bytes, parse_duration
from agentic_serving.cli.fleet_inputs import Inputs, about, jobs, read_inputs, routing
from agentic_serving.cli.fleet_outcome import Outcome, curve, size
from agentic_serving.cli.fleet_progress import Bar
from agentic_serving.cli.simulating import make_folder
from agentic_serving.errors import InvalidInput
from agentic_serving.simulation import OpenLoop, Setup, Workload
from agentic_serving.simulation.attempts import Attempt, Job
from agentic_serving.simulation.objective import Measure, Objective
from agentic_serving.simulation.planner import Choice, Plan, Sample, Shape, Trial, plan, trial
from agentic_serving.simulation.plots import available, plot_attainment
from agentic_serving.simulation.policies import find_policies
from agentic_serving.simulation.pool import Workers
from agentic_serving.simulation.setup import Load

__all__ = ["run", "write"]

_MEASURES: Mapping[str, Measure] = {
    "completion": "completion",
    "slowdown": "slowdown",
    "run": "run",
    "first_token": "first-token",
}

#: A stack's Service has its name: RFC 1035, as Kubernetes checks it.
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def run(given: Mapping[str, Any], *, with_objects: bool) -> Outcome:
    """Read everything, check everything, plan.

    Args:
        with_objects: Kubernetes objects will be asked for.

    Raises:
        InvalidInput: an option, a trace or the folder is no good.
    """
    inputs, objective, n_jobs = read_inputs(given), _objective(given), jobs(given)
    if with_objects and inputs.equipment.hardware is None:
        raise InvalidInput("--output", "yaml is a stack: give --model and --accelerator")
    if given["max_replicas"] < 1:
        raise InvalidInput("--max-replicas", "must be at least 1")
    if given["name"] is not None and not _NAME.fullmatch(given["name"]):
        raise InvalidInput(
            "--name", f"{given['name']!r} is no DNS label: a-z, 0-9 and -, at most 63, a letter first"
        )
    shapes = _shapes(given, inputs)
    fleet = inputs.equipment.fleet(1)
    attempt = Attempt(
        workload=Workload(inputs.programs, fleet, inputs.gaps),
        equipment=inputs.equipment,
        setup=_setup(given, inputs),
        policy=find_policies([given["policy"]], field="--policy")[given["policy"]],
        objective=objective,
    )
    if given["folder"] is not None:
        available()
        make_folder(given["folder"])
    floor = _floor(attempt)
    if floor <= objective.limit:
        found, interrupted = _search(attempt, shapes, inputs.seeds, n_jobs, given["max_replicas"])
    else:  # no fleet can
        found, interrupted = Plan(objective=objective, trials=(), found=()), False
    return Outcome(
        plan=found,
        equipment=inputs.equipment,
        interrupted=interrupted,
        most=given["max_replicas"],
        floor=floor,
        routing=routing(inputs),
        name=given["name"],
        about={"policy": given["policy"], "load": _load(given), **about(inputs, given)},
    )


def write(found: Outcome, folder: Path) -> tuple[Path, ...]:
    """The plan's files; those that were written.

    Raises:
        InvalidInput: one cannot be written.
    """
    texts = {"plan.json": found.show("json"), "plan.txt": found.show("text")}
    if found.equipment.hardware is not None and found.plan.recommended is not None:
        texts["stack.yaml"] = found.show("yaml")
    for name, content in texts.items():
        try:
            (folder / name).write_text(content + "\n", encoding="utf-8")
        except OSError as error:
            raise InvalidInput("--output-dir", f"{folder / name}: {error.strerror or error}") from None
    objective = found.plan.objective
    drawn: tuple[Path, ...] = ()
    if found.plan.trials:
        drawn = plot_attainment(
            curve(found.plan),
            wanted=None if objective.percent is None else objective.percent / 100,
            title=f"{objective.figure}: {objective.limit:g}{objective.unit}",
            path=folder / "attainment",
        )
    return (*(folder / name for name in texts), *drawn)


def _objective(given: Mapping[str, Any]) -> Objective:
    said = {name: given[name] for name in _MEASURES if given[name] is not None}
    if len(said) != 1:
        raise InvalidInput(
            "--completion", f"--slowdown, --run or --first-token: give one objective, found {len(said)}"
        )
    ((name, text),) = said.items()
    option = "--" + name.replace("_", "-")
    which, equals, limit = text.partition("=")
    percent = None if which == "mean" else _number(which.removeprefix("p"), option, text)
    if not equals or not (which == "mean" or which.startswith("p")):
        raise InvalidInput(
            option, f"expected pN=LIMIT such as p95=2{'m' * (name != 'slowdown')}, found {text!r}"
        )
    value = _number(limit, option, text) if name == "slowdown" else parse_duration(limit, option)
    try:
        return Objective(measure=_MEASURES[name], percent=percent, limit=value)
    except InvalidInput as error:
        raise InvalidInput(option, error.message) from None


def _number(text: str, option: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(option, f"{text!r} in {whole!r} is not a number; write p95=2 or mean=2") from None


def _shapes(given: Mapping[str, Any], inputs: Inputs) -> tuple[Shape, ...]:
    """Every size of host memory, together and in every ratio; each is tried on the equipment."""
    sizes = [parse_bytes(text, "--host-memory") for text in given["host_sizes"] or ("0",)]
    found = [Shape(host_bytes=n_bytes) for n_bytes in sizes]
    found += [
        Shape(prefill=prefill, replicas=decode, host_bytes=n_bytes)
        for prefill, decode in map(_ratio, given["ratios"])
        for n_bytes in sizes
    ]
    for shape in found:
        try:
            inputs.equipment.fleet(shape.replicas, prefill=shape.prefill, host_bytes=shape.host_bytes)
        except InvalidInput as error:
            raise InvalidInput(
                "--host-memory" if error.field == "host_memory" else "--ratio", error.message
            ) from None
    return tuple(dict.fromkeys(found))


def _ratio(text: str) -> tuple[int, int]:
    prefill, _, decode = text.partition(":")
    if not (prefill.isdecimal() and decode.isdecimal() and int(prefill) and int(decode)):
        raise InvalidInput("--ratio", f"expected PREFILL:DECODE such as 1:2, found {text!r}")
    return int(prefill), int(decode)


def _setup(given: Mapping[str, Any], inputs: Inputs) -> Setup:
    load: Load
    live, rate = given["programs"], given["rate"]
    if live is not None and rate is not None:
        raise InvalidInput("--programs", "or --rate: give one of the two")
    if live is not None:
        if live < 1:
            raise InvalidInput("--programs", "must be at least 1")
        load = inputs.closed(live, "--programs")
    elif rate is not None:
        if not rate > 0:
            raise InvalidInput("--rate", "must be positive")
        load = OpenLoop(per_s=rate)
    elif all(program.open_loop for program in inputs.programs):
        load = OpenLoop()
    else:
        raise InvalidInput(
            "--rate", "or --programs: the programs have no arrival times, so say how they come"
        )
    return inputs.setup(inputs.equipment.fleet(1), load)


def _floor(attempt: Attempt) -> float:
    """Below which no fleet gets. With a horizon or a warm-up other tasks count than the trace has: then none is known."""
    setup, workload = attempt.setup, attempt.workload
    if setup.horizon_s < float("inf") or setup.warmup_s:
        return 0.0
    return attempt.objective.floor(workload.alone(script) for script in workload.scripts)


def _load(given: Mapping[str, Any]) -> dict[str, Any]:
    if given["programs"] is not None:
        return {"livePrograms": given["programs"]}
    return {"programsPerSecond": given["rate"]} if given["rate"] is not None else {"arrivals": "recorded"}


def _search(
    attempt: Attempt, shapes: tuple[Shape, ...], seeds: tuple[int, ...], n_jobs: int, most: int
) -> tuple[Plan, bool]:
    """The plan, or what there is of it at Ctrl-C; and whether that was pressed."""
    trials: list[Trial] = []

    def done(one: Trial) -> None:
        trials.append(one)
        bar.say(
            f"{size(one.choice)}: {one.verdict.value:.4g}{attempt.objective.unit}, {'meets' if one.verdict.met else 'misses'}"
        )

    try:
        with (
            Bar("plan", total=None) as bar,
            Workers[Job, Sample](attempt, min(n_jobs, len(seeds))) as workers,
        ):

            def look(choice: Choice) -> Trial:
                samples = []
                for sample in workers.run([(choice, seed) for seed in seeds]):
                    samples.append(sample)
                    bar.step(size(choice))
                return trial(choice, samples, attempt.objective)

            return plan(attempt.objective, shapes, look, most=most, on_trial=done), False
    except KeyboardInterrupt:
        return Plan(objective=attempt.objective, trials=tuple(trials), found=()), True
