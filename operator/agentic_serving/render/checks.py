"""What does not fit together, once sizes are known: devices, weights, context."""

from collections.abc import Iterator

from agentic_serving.api.findings import Finding
from agentic_serving.capacity.sizing import fits
from agentic_serving.render.basis import Basis, EnginePool

__all__ = ["size_findings"]


def size_findings(basis: Basis) -> Iterator[Finding]:
    """Pools that cannot run. What is not known refuses nothing."""
    yield from _context(basis)
    for pool in basis.pools:
        yield from _devices(basis, pool)
        yield from _fit(basis, pool)


def _context(basis: Basis) -> Iterator[Finding]:
    wanted = basis.spec.model.context_length
    profile = basis.known_profile
    longest = profile.max_context_tokens if profile else None
    if wanted is not None and longest is not None and wanted > longest:
        yield Finding(
            path="spec.model.contextLength",
            reason="ContextTooLong",
            message=f"{wanted} tokens are more than the {longest} that {profile.name if profile else 'the model'} was made for; "
            "lower it, or leave it out",
        )


def _devices(basis: Basis, pool: EnginePool) -> Iterator[Finding]:
    accelerator = basis.accelerator
    if accelerator.devices_per_node is None or pool.split.devices <= accelerator.devices_per_node:
        return
    yield Finding(
        path=f"{pool.path}.parallelism",
        reason="TooManyDevices",
        message=f"one replica needs {pool.split.devices} devices (tensor x pipeline x data), and a node of {accelerator.name} has "
        f"{accelerator.devices_per_node}; lower the parallelism and raise replicas",
    )


def _fit(basis: Basis, pool: EnginePool) -> Iterator[Finding]:
    fit = fits(
        basis.profile,
        basis.accelerator,
        pool.split,
        context_tokens=basis.spec.model.context_length,
        memory=basis.memory,
    )
    if not fit.ok:
        yield Finding(path=pool.path, reason="ModelDoesNotFit", message=fit.message)
