"""From the options of `simulate` and `plan` to programs and replicas."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from random import Random
from typing import Any

import yaml

from agentic_serving.cli.fleet_options import MADE_UP
from agentic_serving.errors import InvalidInput
from agentic_serving.fleet.profile import StepProfile, parse_profile
from agentic_serving.fleet.profiles import NAMED, find_profile
from agentic_serving.fleet.types import Limits
from agentic_serving.simulation import ClosedLoop, Fleet, Gaps, Setup
from agentic_serving.simulation.equipment import Equipment, Hardware, equipment
from agentic_serving.simulation.halves import of_half
from agentic_serving.simulation.hints import Hints
from agentic_serving.simulation.pool import usable_cores
from agentic_serving.simulation.programs import check_one_block_size, repeated
from agentic_serving.simulation.setup import Load
from agentic_serving.workload import Program, read, totals
from agentic_serving.workload.generate import KINDS, generate

__all__ = ["Inputs", "about", "jobs", "read_inputs", "routing"]

_HINTS: Mapping[str, Hints | None] = {
    "none": None,
    "right": Hints(),
    "half-wrong": Hints(share_right=0.5),
    "adversarial": Hints(share_right=0.0, adversarial=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Programs, their gaps, and the replicas that they run on."""

    programs: tuple[Program, ...]
    gaps: Gaps
    equipment: Equipment
    seeds: tuple[int, ...]
    base: Mapping[str, Any]  # of every setup

    def setup(self, fleet: Fleet, load: Load) -> Setup:
        """A simulation of this load on this fleet."""
        return Setup(fleet=fleet, load=load, gaps=self.gaps, **self.base)

    def closed(self, live: int, option: str) -> ClosedLoop:
        """Raises: InvalidInput: more are to be live than there are, and they do not start over."""
        repeat, there = self.base["horizon_s"] < inf, len(self.programs)
        if live > there and not repeat:
            raise InvalidInput(
                option,
                f"means {live} live programs, and there are {there}: give more --laps or a --horizon, so that they run again",
            )
        return ClosedLoop(live=live, repeat=repeat)


def read_inputs(given: Mapping[str, Any]) -> Inputs:
    """Raises: InvalidInput: an option, a trace or a profile is no good."""
    for name in ("seeds", "laps", "routers", "max_seqs", "max_batched_tokens", "tensor"):
        if given[name] < 1:
            raise InvalidInput(_option(name), "must be at least 1")
    for name in ("tool_scale", "human_scale"):
        if given[name] < 0:
            raise InvalidInput(_option(name), "must not be negative")
    programs = _programs(given)
    return Inputs(
        programs=programs,
        gaps=Gaps(tool_scale=given["tool_scale"], human_scale=given["human_scale"], max_s=given["max_gap"]),
        equipment=_equipment(given, check_one_block_size(programs)),
        seeds=tuple(range(given["seed"], given["seed"] + given["seeds"])),
        base={
            "horizon_s": inf if given["horizon"] is None else given["horizon"],
            "warmup_s": given["warmup"],
            "announce_ends": not given["silent_ends"],
            "routers": given["routers"],
            "scrape_s": given["scrape"],
            "hints": _HINTS[given["hints"]],
        },
    )


def jobs(given: Mapping[str, Any]) -> int:
    """Raises: InvalidInput: fewer than one."""
    wanted = given["jobs"]
    if wanted is not None and wanted < 1:
        raise InvalidInput("--jobs", "must be at least 1")
    return usable_cores() if wanted is None else int(wanted)


def about(inputs: Inputs, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a report says of where it comes from."""
    found, replica = totals(inputs.programs), inputs.equipment
    return {
        "workload": {
            "traces": [str(path) for path in given["traces"]],
            "kind": given["kind"],
            "half": given["half"],
            "laps": given["laps"],
            "programs": found.programs,
            "sessions": found.sessions,
            "turns": found.turns,
            "promptTokens": found.prompt_tokens,
            "outputTokens": found.output_tokens,
            "toolScale": inputs.gaps.tool_scale,
            "humanScale": inputs.gaps.human_scale,
            "maxGapSeconds": inputs.gaps.max_s,
        },
        "replica": {
            "cacheTokens": replica.limits.usable_tokens,
            "blockTokens": replica.limits.block_size,
            "maxSeqs": replica.limits.max_seqs,
            "maxBatchedTokens": replica.limits.max_batched_tokens,
            "profile": replica.profile.name,
            "profileSource": replica.profile.source,
            "model": given["model"],
            "accelerator": given["accelerator"],
            "tensor": given["tensor"],
        },
        "seeds": list(inputs.seeds),
        "horizonSeconds": inputs.base["horizon_s"],
        "warmupSeconds": inputs.base["warmup_s"],
        "endsAnnounced": inputs.base["announce_ends"],
        "routers": inputs.base["routers"],
        "scrapeSeconds": inputs.base["scrape_s"],
        "hints": given["hints"],
        "assumptions": list(replica.assumptions),
    }


def routing(inputs: Inputs) -> str:
    """One sentence on routers, for the reader of a result."""
    n, scrape_s = inputs.base["routers"], inputs.base["scrape_s"]
    gauges = f"gauges of up to {scrape_s:g} s ago" if scrape_s else "current gauges"
    return f"Routing: {n} router{'' if n == 1 else 's'} with {gauges}; no replica fails."


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _programs(given: Mapping[str, Any]) -> tuple[Program, ...]:
    wanted, kind = given["sessions"], given["kind"]
    if bool(given["traces"]) == (kind is not None):
        raise InvalidInput("--trace", "or --workload: give one of the two")
    if kind is not None and kind not in KINDS:
        raise InvalidInput("--workload", f"there is no {kind!r}; use one of {', '.join(KINDS)}")
    if wanted is not None and wanted < 1:
        raise InvalidInput("--sessions", "must be at least 1")
    if kind is None:
        found = tuple(program for path in given["traces"] for program in read(path))
    else:
        found = generate(kind, wanted or MADE_UP, given["seed"])
    if given["half"] != "all":
        found = of_half(found, given["half"])
    if not found:
        raise InvalidInput("--half", f"{given['half']}: none of the programs is in it")
    if kind is None and wanted is not None and wanted < len(found):
        drawn = set(Random(given["seed"]).sample(range(len(found)), wanted))  # noqa: S311 - a workload, not a secret
        found = tuple(program for i, program in enumerate(found) if i in drawn)
    return repeated(found, given["laps"])


def _equipment(given: Mapping[str, Any], block_size: int) -> Equipment:
    model, preset = given["model"], given["accelerator"]
    if (model is None) != (preset is None):
        raise InvalidInput("--model", "and --accelerator go together")
    if given["cache_tokens"] is not None and given["cache_tokens"] < 1:
        raise InvalidInput("--cache-tokens", "must be at least 1")
    profile = None if given["profile"] is None else _profile(given["profile"])
    if model is None:
        if given["cache_tokens"] is None:
            raise InvalidInput(
                "--cache-tokens", "or --model and --accelerator: say what one replica's KV cache holds"
            )
        profile = profile or NAMED["sketch"]
    limits = Limits(
        n_blocks=2,  # the cache's follow
        block_size=block_size,
        max_seqs=given["max_seqs"],
        max_batched_tokens=given["max_batched_tokens"],
    )
    hardware = None if model is None else Hardware(model=model, accelerator=preset, tensor=given["tensor"])
    try:
        return equipment(limits, hardware=hardware, cache_tokens=given["cache_tokens"], profile=profile)
    except InvalidInput as error:
        raise InvalidInput(_option(error.field), error.message) from None


def _profile(name: str) -> StepProfile:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml", ".json"):
        return find_profile(name, field="--profile")
    try:
        text = path.read_text(encoding="utf-8")
        data: object = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise InvalidInput("--profile", f"{path}: {error.strerror or error}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise InvalidInput("--profile", f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise InvalidInput("--profile", f"{path}: expected a mapping with base_s, prefill_token_s, ...")
    found = parse_profile(data, field=f"--profile: {path}")
    return found if "name" in data else replace(found, name=path.stem)
