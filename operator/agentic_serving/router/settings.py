"""Settings of the scheduler's process: one frozen object, from the environment, overridden by flags.

Every field is read from `AGENTIC_SERVING_<FIELD>` (`AGENTIC_SERVING_HTTP_PORT=0`). What the stack wants of it is in
`scheduler.json` (`router/config.py`).
"""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from agentic_serving.errors import InvalidInput
from agentic_serving.settings import LogFormat

__all__ = ["SchedulerSettings"]


def _identity() -> str:
    return os.environ.get("POD_NAME") or f"{socket.gethostname()}_{os.getpid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """How the process runs.

    Raises:
        InvalidInput: a value is out of range.
    """

    config: str = "/etc/agentic-serving/scheduler.json"
    kubeconfig: str | None = None  # a file; None: $KUBECONFIG, the pod's service account, ~/.kube/config
    context: str | None = None
    grpc_address: str = "[::]"  # every Envoy of the stack asks the active scheduler; NetworkPolicies guard it
    grpc_port: int = 9004
    http_address: str = "0.0.0.0"  # noqa: S104 - Prometheus and the operator reach the pod by its address
    http_port: int = 9005
    identity: str = field(default_factory=_identity)  # in the Lease
    # Shorter than a controller's: while nobody is active, calls go unscheduled. client-go asks for
    # retry < renew < duration with room for clocks that run at different speeds.
    lease_duration_s: float = 6.0
    renew_deadline_s: float = 4.0
    retry_period_s: float = 1.0
    reload_s: float = (
        1.0  # between two looks at the configuration; the kubelet brings a change within a minute or so
    )
    # The policy's seconds times this: for demos and tests that replay programs faster than they were recorded.
    time_scale: float = 1.0
    log_level: str = "INFO"
    log_format: LogFormat = "json"

    def __post_init__(self) -> None:
        for name in ("grpc_port", "http_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise InvalidInput(name, "must be a port: 0 to 65535")
        if not self.time_scale > 0:
            raise InvalidInput("time_scale", "must be above 0")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise InvalidInput("log_level", "must be DEBUG, INFO, WARNING or ERROR")
        if self.log_format not in ("json", "text"):
            raise InvalidInput("log_format", "must be json or text")

    @property
    def path(self) -> Path:
        return Path(self.config)
