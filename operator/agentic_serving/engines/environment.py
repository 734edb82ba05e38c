"""The environment of an engine container, in an order in which references resolve."""

from agentic_serving.api.rules import Rule
from agentic_serving.capacity.accelerator import Setting
from agentic_serving.engines.base import EngineInputs, EnvVar
from agentic_serving.engines.connectors import NIXL_PORT, children
from agentic_serving.engines.rules import environment_rule

__all__ = ["KEEP_ALIVE_S", "STARTUP_S", "environment", "uses_nixl"]

#: Longest time for downloading and loading weights. Source: llm-d v0.10, agentic serving guide, 30 s x 240.
STARTUP_S = 7200
#: Above the 90 s for which llm-d's P/D sidecar keeps idle connections. Source: llm-d v0.10, P/D guide.
KEEP_ALIVE_S = 120


def uses_nixl(inputs: EngineInputs) -> bool:
    return any(part.get("kv_connector") == "NixlConnector" for part in children(inputs.connector))


def environment(inputs: EngineInputs) -> tuple[EnvVar, ...]:
    """Generated variables, then those of the accelerator that the user does not set, then the tier's, then the user's."""
    generated = [*_addresses(inputs), *_folders(inputs), *_behaviour()]
    users = {entry.name for entry in inputs.user_env}
    settings = [s for s in inputs.accelerator.env if s.name not in users]
    generated += [_of_setting(s, "accelerator") for s in settings]
    generated += [_of_setting(s, "tier") for s in inputs.extra_env]
    rule = Rule(id="user/env", reason="set by the user", source="spec.engine.env")
    own = [
        EnvVar(name=e.name, value=_value(e.value, e.secret), secret=e.secret, rule=rule)
        for e in inputs.user_env
    ]
    return _unique([*generated, *own])


def _value(value: str | None, secret: object) -> str | None:
    return "" if value is None and secret is None else value


def _unique(variables: list[EnvVar]) -> tuple[EnvVar, ...]:
    """One variable per name, the first: what the user repeats is refused, and never reaches a pod."""
    by_name: dict[str, EnvVar] = {}
    for variable in variables:
        by_name.setdefault(variable.name, variable)
    return tuple(by_name.values())


def _plain(name: str, value: str) -> EnvVar:
    return EnvVar(name=name, value=value, rule=environment_rule(name))


def _pod_ip(name: str) -> EnvVar:
    return EnvVar(name=name, field_path="status.podIP", rule=environment_rule(name))


def _addresses(inputs: EngineInputs) -> list[EnvVar]:
    found = [_pod_ip("POD_IP")] if inputs.kv_events else []
    if uses_nixl(inputs):
        found.append(_pod_ip("VLLM_NIXL_SIDE_CHANNEL_HOST"))
        found.append(_plain("VLLM_NIXL_SIDE_CHANNEL_PORT", str(NIXL_PORT)))
        if inputs.accelerator.vendor == "CPU":
            found.append(_plain("UCX_TLS", "tcp"))
    return found


def _folders(inputs: EngineInputs) -> list[EnvVar]:
    home = inputs.home_dir
    found = [
        _plain("HOME", home),
        _plain("USER", "vllm"),
        _plain("HF_HOME", f"{home}/huggingface"),
        _plain("VLLM_CACHE_ROOT", f"{home}/vllm"),
    ]
    if inputs.model_ref.startswith("/"):
        found.append(_plain("HF_HUB_OFFLINE", "1"))
    elif inputs.hf_token is not None:
        found.append(EnvVar(name="HF_TOKEN", secret=inputs.hf_token, rule=environment_rule("HF_TOKEN")))
    return found


def _behaviour() -> list[EnvVar]:
    return [
        _plain("VLLM_NO_USAGE_STATS", "1"),
        _plain("VLLM_ENGINE_READY_TIMEOUT_S", str(STARTUP_S)),
        _plain("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", str(KEEP_ALIVE_S)),
    ]


def _of_setting(setting: Setting, origin: str) -> EnvVar:
    name = setting.name.lower().replace("_", "-")
    rule = Rule(id=f"{origin}/env-{name}", reason=setting.reason, source=setting.source)
    return EnvVar(name=setting.name, value=setting.value, rule=rule)
