"""What an engine of this version can carry out for a role, and what keeps it from it."""

from agentic_serving.api.capability import Capability, CapabilityState
from agentic_serving.api.findings import Finding
from agentic_serving.capacity.accelerator import Accelerator
from agentic_serving.engines.base import EngineInputs, Tuning
from agentic_serving.engines.environment import uses_nixl
from agentic_serving.engines.tables import VersionTable

__all__ = ["capabilities", "image_packages", "missing_packages", "package_findings"]

#: Package that a connector imports when the engine starts.
_PACKAGES = {"NixlConnector": "nixl", "LMCacheMPConnector": "lmcache"}


def image_packages(
    accelerator: Accelerator, table: VersionTable, *, custom_image: bool
) -> tuple[str, ...] | None:
    """Connector packages in the engine's image; None for an image of the user's own, which is taken at its word."""
    return None if custom_image else table.packages.get(accelerator.engine_variant, ())


def missing_packages(inputs: EngineInputs, connector: str, table: VersionTable) -> bool:
    """Whether the engine's image lacks what a connector imports."""
    held = image_packages(inputs.accelerator, table, custom_image=inputs.custom_image)
    package = _PACKAGES.get(connector)
    return package is not None and held is not None and package not in held


def package_findings(inputs: EngineInputs, table: VersionTable) -> list[Finding]:
    """An engine whose transfer connector cannot be imported does not start: refuse it before."""
    if not (uses_nixl(inputs) and missing_packages(inputs, "NixlConnector", table)):
        return []
    variant = inputs.accelerator.engine_variant
    message = (
        f"vLLM's default image for {variant} does not hold NIXL: set spec.engine.image (and version) to an image "
        "with the package nixl, or use topology.aggregated"
    )
    return [Finding(path="spec.topology.disaggregated", reason="TransferUnsupported", message=message)]


def capabilities(inputs: EngineInputs, tuning: Tuning, table: VersionTable) -> tuple[Capability, ...]:
    """One line per ability that the stack relies on."""
    found = [
        _capability(inputs, "PrefixCaching", "Supported", "vLLM automatic prefix caching"),
        _drain(inputs),
        _capability(inputs, "UsageReporting", "Supported", "--enable-force-include-usage"),
        _tool_calling(inputs, tuning),
    ]
    if inputs.kv_events is not None:
        found.append(_events(inputs))
    if inputs.role != "Aggregated":
        found.append(_transfer(inputs, table))
    return tuple(found)


def _capability(
    inputs: EngineInputs, intent: str, state: CapabilityState, mechanism: str = "", reason: str = ""
) -> Capability:
    return Capability(intent=intent, role=inputs.role, state=state, mechanism=mechanism, reason=reason)


def _drain(inputs: EngineInputs) -> Capability:
    if inputs.shutdown_timeout_s == 0:
        reason = "spec.disruption.drainTimeout is 0: requests that run when a pod stops are aborted"
        return _capability(inputs, "DrainOnShutdown", "Unsupported", reason=reason)
    if inputs.role == "Prefill":
        reason = (
            "running prefills finish, but the pod does not wait until their KV cache has been fetched: such turns "
            "are computed again on the decode pod"
        )
        return _capability(inputs, "DrainOnShutdown", "Approximated", "vLLM --shutdown-timeout", reason)
    return _capability(inputs, "DrainOnShutdown", "Supported", "vLLM --shutdown-timeout")


def _tool_calling(inputs: EngineInputs, tuning: Tuning) -> Capability:
    if tuning.auto_tool_choice and tuning.tool_parser:
        return _capability(inputs, "ToolCalling", "Supported", f"vLLM parser {tuning.tool_parser}"[:128])
    reason = (
        "no tool-call parser is known for this model: name one as --tool-call-parser in spec.engine.args, with "
        "--chat-template where the model needs it; until then tool calls arrive as text"
    )
    if tuning.auto_tool_choice is False:
        reason = "turned off by --disable-auto-tool-choice in spec.engine.args"
    return _capability(inputs, "ToolCalling", "Unsupported", reason=reason)


def _events(inputs: EngineInputs) -> Capability:
    mechanism = "vLLM KV events over ZMQ"
    if inputs.parallelism.data == 1:
        return _capability(inputs, "PrecisePrefixEvents", "Supported", mechanism)
    reason = (
        "each data-parallel rank publishes on a port of its own, and the picker knows the replica as one endpoint: "
        "it hears of the first rank's blocks only"
    )
    return _capability(inputs, "PrecisePrefixEvents", "Approximated", mechanism, reason)


def _transfer(inputs: EngineInputs, table: VersionTable) -> Capability:
    intent = "PrefillDecodeTransfer"
    if not uses_nixl(inputs):
        return _capability(inputs, intent, "Unsupported", reason="no transfer connector is configured")
    if missing_packages(inputs, "NixlConnector", table):
        variant = inputs.accelerator.engine_variant
        reason = (
            f"vLLM's default image for {variant} does not hold NIXL: set spec.engine.image to one that does"
        )
        return _capability(inputs, intent, "Unsupported", reason=reason)
    mechanism = "vLLM NixlConnector over UCX"
    if inputs.accelerator.vendor == "CPU":
        reason = "KV cache crosses pods over TCP: fit for trying out, not for speed"
        return _capability(inputs, intent, "Approximated", mechanism, reason)
    return _capability(inputs, intent, "Supported", mechanism)
