"""Settings of the operator process: one frozen object, from the environment, overridden by flags.

Every field is read from `AGENTIC_SERVING_<FIELD>` (`AGENTIC_SERVING_RESYNC_S=300`). Units are in the names.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from agentic_serving.errors import InvalidInput

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["ENV_PREFIX", "LogFormat", "OperatorSettings", "from_environment"]

ENV_PREFIX = "AGENTIC_SERVING_"
LogFormat = Literal["json", "text"]
T = TypeVar("T", bound="DataclassInstance")
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
#: What may be zero: a port that is off, and waits that are left out.
_MAY_BE_ZERO = ("metrics_port", "coalesce_s", "status_interval_s", "pod_report_after_s")


def _identity() -> str:
    """Who we are in the Lease: the pod's name, elsewhere the host and the process."""
    return os.environ.get("POD_NAME") or f"{socket.gethostname()}_{os.getpid()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """How the operator runs.

    Raises:
        InvalidInput: a value is out of range, or two of them contradict each other.
    """

    kubeconfig: str | None = None  # a file; None: $KUBECONFIG, the pod's service account, ~/.kube/config
    context: str | None = None  # of the kubeconfig; None: its current one
    namespaces: tuple[str, ...] = ()  # empty: all; the environment separates them by commas

    scheduler_image: str = (
        ""  # of stacks' program schedulers: the operator's own; empty: that of this release
    )

    workers: int = 8  # keys reconciled at once; they wait for the API server most of the time
    resync_s: float = (
        600.0  # list everything again: kopf loses deletions across a re-list (docs/decisions/0001)
    )
    discovery_s: float = 300.0  # look for kinds that were installed or removed meanwhile
    coalesce_s: float = 1.0  # changes of a child's status within this time cause one reconcile
    status_interval_s: float = 60.0  # between status writes that report progress only (docs/decisions/0001)
    scheduler_look_s: float = (
        30.0  # between two questions to stacks' program schedulers; statuses are paced above
    )
    pod_report_after_s: float = 60.0  # a Deployment this long without all its pods has their states quoted
    shutdown_s: float = 20.0  # for work in progress at the end; below the pod's 30 s grace period

    leader_election: bool = True
    lease_namespace: str = field(
        default_factory=lambda: os.environ.get("POD_NAMESPACE") or "agentic-serving-system"
    )
    lease_name: str = "agentic-serving-operator"
    identity: str = field(default_factory=_identity)
    # The three of client-go's leader election (tools/leaderelection), as kube-controller-manager sets them.
    lease_duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_period_s: float = 2.0

    metrics_address: str = "0.0.0.0"  # noqa: S104 - kubelet and Prometheus reach the pod by its address
    metrics_port: int = 8080  # /metrics, /healthz, /readyz; 0 is off
    log_level: str = "INFO"
    log_format: LogFormat = "json"

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if value < 0 or (value == 0 and f.name not in _MAY_BE_ZERO):
                raise InvalidInput(f.name, "must be above 0")
        if not self.retry_period_s < self.renew_deadline_s < self.lease_duration_s:
            raise InvalidInput("renew_deadline_s", "must lie between retry_period_s and lease_duration_s")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise InvalidInput("log_level", "must be DEBUG, INFO, WARNING or ERROR")
        if self.log_format not in get_args(LogFormat):
            raise InvalidInput("log_format", "must be json or text")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "OperatorSettings":
        """Defaults with what the environment sets.

        Raises:
            InvalidInput: a variable does not parse; the field is the variable's name.
        """
        return from_environment(cls(), environ)


def from_environment(settings: T, environ: Mapping[str, str]) -> T:
    """The settings with what `AGENTIC_SERVING_<FIELD>` sets.

    Raises:
        InvalidInput: a variable does not parse; the field is the variable's name.
    """
    given: dict[str, Any] = {}
    for f in fields(settings):
        variable = ENV_PREFIX + f.name.upper()
        if variable in environ:
            given[f.name] = _parse(variable, environ[variable], getattr(settings, f.name))
    return replace(settings, **given)


def _parse(variable: str, text: str, default: object) -> object:
    """The text as the type of the field's default."""
    if isinstance(default, bool):
        return _parse_bool(variable, text)
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if not isinstance(default, int | float):
        return text
    try:
        return type(default)(text)
    except ValueError as error:
        raise InvalidInput(variable, f"must be a number, not {text!r}") from error


def _parse_bool(variable: str, text: str) -> bool:
    if text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    raise InvalidInput(variable, f"must be true or false, not {text!r}")
