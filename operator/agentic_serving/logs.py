"""Structured logs: one JSON object per line, with the object and the pass that a line is about."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TextIO

import orjson

from agentic_serving.settings import LogFormat

__all__ = ["bound", "set_up"]

_BOUND: ContextVar[Mapping[str, object]] = ContextVar("log_fields", default=MappingProxyType({}))
#: What every record has; the rest came by `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Loggers of libraries that tell at INFO what is nobody's business.
_CHATTY = ("kopf", "aiohttp", "asyncio", "kubernetes")
#: Each of kopf's watches tells of each failed attempt, with a traceback: an API server that restarts would fill
#: the log. This many lines per minute show what is wrong.
_KOPF_LINES_PER_MIN = 5


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Every line of this task, until the block ends, has these fields."""
    token = _BOUND.set({**_BOUND.get(), **fields})
    try:
        yield
    finally:
        _BOUND.reset(token)


def set_up(level: str, form: LogFormat, stream: TextIO = sys.stderr) -> None:
    """Send all logs of the process to the stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        _Json() if form == "json" else _Text("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    handler.addFilter(_Seldom("kopf", _KOPF_LINES_PER_MIN))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # kopf tells that it does not handle signals: it must not, see controller/main.py.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)


class _Seldom(logging.Filter):
    """Lets so many lines per minute through from one family of loggers, and all from others."""

    def __init__(self, family: str, per_minute: int) -> None:
        super().__init__()
        self._family = family
        self._per_minute = per_minute
        self._minute = -1
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != self._family:
            return True
        minute = int(record.created // 60)
        self._count = self._count + 1 if minute == self._minute else 1
        self._minute = minute
        return self._count <= self._per_minute


def _fields(record: logging.LogRecord) -> dict[str, object]:
    extra = {k: v for k, v in vars(record).items() if k not in _STANDARD and not k.startswith("_")}
    return {**_BOUND.get(), **extra}


class _Json(logging.Formatter):
    """`{"time": ..., "level": ..., "logger": ..., "message": ..., <fields>}`"""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _Text(logging.Formatter):
    """A line for people, with the fields at its end."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{k}={v}" for k, v in _fields(record).items())
        return f"{super().format(record)} {fields}".rstrip()
