"""What a stack comes to once names are looked up: accelerator, model sizes, picker release, pools, times.

Everything after this works on finished values. What cannot be looked up becomes findings, all at once.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from agentic_serving.api.findings import Finding, errors, summarise
from agentic_serving.api.policy import KVTierPolicySpec
from agentic_serving.api.quantities import parse_bytes, parse_duration
from agentic_serving.api.stack import AgenticServingStackSpec, EnvVar, Pool
from agentic_serving.api.stack import Toleration as ApiToleration
from agentic_serving.api.validate import cross_field_findings
from agentic_serving.capacity.accelerator import Accelerator, Toleration, find_accelerator
from agentic_serving.capacity.profile import ModelProfile
from agentic_serving.capacity.sizing import Memory, Parallelism, Unknown, lookup_profile
from agentic_serving.engines import vllm
from agentic_serving.engines.abilities import image_packages
from agentic_serving.engines.base import Role as EngineRole
from agentic_serving.engines.base import SecretKey, Tuning, UserEnv
from agentic_serving.engines.tables import VersionTable
from agentic_serving.engines.versions import resolve
from agentic_serving.errors import InvalidInput
from agentic_serving.render.inputs import RenderInputs
from agentic_serving.render.manifest import Owner
from agentic_serving.render.releases import PickerRelease, load_release
from agentic_serving.render.weights import Weights, weights

__all__ = ["Basis", "EnginePool", "settle"]

# A Service's name is a DNS-1035 label.
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePool:
    """A pool of equal engine pods.

    Attributes:
        suffix: what its objects are called after the stack's name.
        label: value of `llm-d.ai/role`; None in a pool that does both.
        path: of the pool in the stack.
    """

    role: EngineRole
    suffix: str
    label: str | None
    path: str
    replicas: int
    split: Parallelism


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Finished values that all parts of a plan share."""

    inputs: RenderInputs
    spec: AgenticServingStackSpec
    owner: Owner
    version: str  # of the engine
    packages: tuple[str, ...] | None  # connector packages in the engine's image; None: the user's own image
    tuning: Tuning  # what the user's engine arguments change for everybody
    user_env: tuple[UserEnv, ...]
    accelerator: Accelerator
    release: PickerRelease
    pools: tuple[EnginePool, ...]
    weights: Weights
    profile: ModelProfile | Unknown
    memory: Memory
    policy: KVTierPolicySpec | None
    drain_s: int
    request_timeout_s: int

    @property
    def disaggregated(self) -> bool:
        return self.spec.topology.disaggregated is not None

    @property
    def known_profile(self) -> ModelProfile | None:
        return None if isinstance(self.profile, Unknown) else self.profile

    @property
    def precise(self) -> bool:
        return self.spec.router.prefix_routing == "Precise"

    @property
    def scheduling(self) -> Literal["Enforce", "Observe", "Off"]:
        return self.spec.program_scheduling.mode

    @property
    def shares_scheduler(self) -> bool:
        """Whether the schedulers of several router pods must agree on the active one."""
        return self.scheduling != "Off" and self.spec.router.replicas > 1

    @property
    def step_tokens(self) -> int | None:
        """Tokens that the engine computes in a step, where the user's arguments say so."""
        text = _argument(self.spec.engine.args, "--max-num-batched-tokens")
        return int(text) if text.isdecimal() and int(text) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _LookedUp:
    """What the names in a spec stand for."""

    accelerator: Accelerator
    release: PickerRelease
    version: str
    table: VersionTable


def settle(inputs: RenderInputs) -> tuple[Basis | None, tuple[Finding, ...]]:
    """The basis, or None if something could not be looked up; and what was found on the way."""
    findings = list(_early_findings(inputs))
    found = _look_up(inputs.stack.spec, findings)
    if found is None or errors(findings):
        return None, tuple(findings)
    basis = _basis(inputs, found)
    if isinstance(basis.profile, Unknown):
        message = basis.profile.reason
        findings.append(Finding(path="spec.model", reason="SizingOff", message=message, severity="Warning"))
    return basis, tuple(findings)


def _basis(inputs: RenderInputs, found: _LookedUp) -> Basis:
    spec, accelerator = inputs.stack.spec, found.accelerator
    user_env = tuple(map(_user_env, spec.engine.env))
    tuning = vllm.tuning(spec.engine.args, user_env, accelerator, found.version)
    if tuning.kv_cache_bytes is not None:
        accelerator = replace(accelerator, kv_cache_bytes=tuning.kv_cache_bytes)
    custom_image = spec.engine.image is not None
    return Basis(
        inputs=inputs,
        spec=spec,
        owner=Owner.of(inputs.stack.metadata),
        version=found.version,
        packages=image_packages(accelerator, found.table, custom_image=custom_image),
        tuning=tuning,
        user_env=user_env,
        accelerator=accelerator,
        release=found.release,
        pools=tuple(_pools(spec)),
        weights=weights(spec.model.source),
        profile=_profile(spec),
        memory=_memory(spec.engine.args),
        policy=inputs.policy.spec if inputs.policy else None,
        drain_s=math.ceil(parse_duration(spec.disruption.drain_timeout)),
        request_timeout_s=math.ceil(parse_duration(spec.router.request_timeout)),
    )


def _early_findings(inputs: RenderInputs) -> Iterator[Finding]:
    stack = inputs.stack
    if not _SERVICE_NAME.fullmatch(stack.metadata.name):
        yield Finding(
            path="metadata.name",
            reason="InvalidSpec",
            message="the stack's Service has the same name: start with a letter, use a-z, 0-9 and dashes only, "
            "at most 63 characters",
        )
    yield from cross_field_findings(stack.spec, "spec")
    yield from _policy_findings(inputs)


def _policy_findings(inputs: RenderInputs) -> Iterator[Finding]:
    reference = inputs.stack.spec.kv_tier_policy_ref
    if reference is None:
        return
    if inputs.policy is None:
        yield Finding(
            path="spec.kvTierPolicyRef.name",
            reason="PolicyNotFound",
            message=f"there is no KVTierPolicy {reference.name} in namespace {inputs.stack.metadata.namespace}; "
            "create it, or remove the reference",
        )
        return
    wrong = cross_field_findings(inputs.policy.spec, "spec")
    if wrong:
        yield Finding(
            path="spec.kvTierPolicyRef.name",
            reason="PolicyNotAccepted",
            message=f"KVTierPolicy {reference.name} is not valid: {summarise(wrong, limit_chars=512)}",
        )


def _look_up(spec: AgenticServingStackSpec, findings: list[Finding]) -> _LookedUp | None:
    """Accelerator, picker release and engine version; what is not known becomes findings, all at once."""
    accelerator = release = None
    try:
        accelerator = _accelerator(spec)
    except InvalidInput as error:
        findings.append(Finding(path=error.field, reason="UnknownPreset", message=error.message))
    try:
        release = load_release(spec.router.endpoint_picker.release)
    except InvalidInput as error:
        findings.append(Finding(path=error.field, reason="UnknownRelease", message=error.message))
    resolved = resolve(spec.engine.version or vllm.default_version())
    findings += resolved.findings
    if accelerator is None or release is None or resolved.table is None:
        return None
    return _LookedUp(accelerator=accelerator, release=release, version=resolved.version, table=resolved.table)


def _accelerator(spec: AgenticServingStackSpec) -> Accelerator:
    preset = find_accelerator(spec.accelerator.preset)
    overrides = spec.accelerator.overrides
    changed = replace(
        preset,
        resource_name=overrides.resource_name or preset.resource_name,
        memory_bytes=parse_bytes(overrides.memory) if overrides.memory else preset.memory_bytes,
        cpu_request=overrides.cpu or preset.cpu_request,
    )
    if overrides.resource_name is not None:
        # A slice of a device, or another device: how many of them a node has is not known.
        changed = replace(changed, devices_per_node=None)
    if overrides.node_selector is not None:
        changed = replace(changed, node_selector=dict(overrides.node_selector))
    if overrides.tolerations is not None:
        changed = replace(changed, tolerations=tuple(map(_toleration, overrides.tolerations)))
    return changed


def _user_env(given: EnvVar) -> UserEnv:
    ref = given.secret_key_ref
    secret = SecretKey(name=ref.name, key=ref.key) if ref else None
    return UserEnv(name=given.name, value=given.value, secret=secret)


def _toleration(given: ApiToleration) -> Toleration:
    return Toleration(
        key=given.key or "", operator=given.operator, value=given.value or "", effect=given.effect or ""
    )


def _pools(spec: AgenticServingStackSpec) -> Iterator[EnginePool]:
    topology = spec.topology
    if topology.aggregated is not None:
        yield _pool("Aggregated", "engine", None, "spec.topology.aggregated", topology.aggregated)
    if topology.disaggregated is not None:
        apart = topology.disaggregated
        yield _pool("Prefill", "prefill", "prefill", "spec.topology.disaggregated.prefill", apart.prefill)
        yield _pool("Decode", "decode", "decode", "spec.topology.disaggregated.decode", apart.decode)


def _pool(role: EngineRole, suffix: str, label: str | None, path: str, pool: Pool) -> EnginePool:
    wide = pool.parallelism
    return EnginePool(
        role=role,
        suffix=suffix,
        label=label,
        path=path,
        replicas=pool.replicas,
        split=Parallelism(
            tensor=wide.tensor, pipeline=wide.pipeline, data=wide.data, expert=wide.expert == "Enabled"
        ),
    )


def _profile(spec: AgenticServingStackSpec) -> ModelProfile | Unknown:
    """Sizes of the model: the user's, else those of the table, by repository where the weights come from the hub."""
    hub = spec.model.source.hugging_face
    name = hub.repository if hub else spec.model.name
    element_bytes = 1 if _argument(spec.engine.args, "--kv-cache-dtype").startswith("fp8") else 2
    given = spec.model.profile
    if given is None:
        return lookup_profile(name, kv_element_bytes=element_bytes)
    return ModelProfile(
        name=name,
        attention=None,
        kv_bytes_per_token=given.kv_bytes_per_token,
        n_kv_heads=given.kv_heads,
        weight_bytes=parse_bytes(given.weight_bytes) if given.weight_bytes else None,
        sources=("spec.model.profile",),
    )


def _memory(args: Iterable[str]) -> Memory:
    """How much of a device the engine may use: its default, unless the user's arguments say otherwise."""
    text = _argument(args, "--gpu-memory-utilization")
    try:
        return Memory(utilization=float(text)) if text else Memory()
    except (ValueError, InvalidInput):
        return Memory()  # the engine's own check reports the argument


def _argument(args: Iterable[str], name: str) -> str:
    """The last value of an engine argument written as `--name=value`; empty if it is not there."""
    values = [arg.partition("=")[2] for arg in args if arg.startswith(f"{name}=")]
    return values[-1] if values else ""
