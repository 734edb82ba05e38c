"""OpenTelemetry spans, off unless the standard variables name a collector. The library is imported only then."""

import logging
import time
from collections.abc import Mapping
from typing import Protocol

from agentic_serving.router import words
from agentic_serving.router.config import Config

__all__ = ["Spans", "spans_from_env"]

_log = logging.getLogger(__name__)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Spans(words.Listener, Protocol):
    """A listener that is closed when the process ends."""

    def close(self) -> None:
        """Send what is left, for 2 s at most. Blocks."""
        ...


def spans_from_env(environ: Mapping[str, str], config: Config) -> Spans | None:
    """The listener, if spans are wanted; the exporter reads its further settings (headers, timeout) from the process' environment."""
    wanted = any(environ.get(name) for name in _ENDPOINTS)
    if not wanted or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:  # together 0.2 s to import: not where nobody wants them
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        from agentic_serving.router.tracing import Tracing
    except ImportError as error:
        _log.error("no spans: %s. Install opentelemetry-proto again: xds-protos has written over it", error)
        return None
    epoch_ns = time.time_ns() - time.monotonic_ns()
    return Tracing(config, OTLPSpanExporter(), epoch_ns=epoch_ns)
