"""Quantities and durations between what users write and the plain numbers inside: the only place that converts.

Bytes and CPU follow Kubernetes' resource.Quantity (apimachinery `pkg/api/resource/quantity.go`): a decimal
number with a binary (`Ki`), decimal (`k`, `m`) or exponent (`e3`) suffix, fractions rounded up. Durations are
Gateway API's (GEP-2257): `1h30m`, whole numbers of at most five digits, no fractions, no sign.
Not modelled: negative quantities, for no field of ours has any.
"""

import re
from decimal import ROUND_CEILING, Context, Decimal

from agentic_serving.errors import InvalidInput

__all__ = [
    "format_bytes",
    "format_cpu",
    "format_duration",
    "parse_bytes",
    "parse_cpu",
    "parse_duration",
]

_BINARY = {suffix: 1024**i for i, suffix in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))}
_DECIMAL = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000**i) for i, suffix in enumerate(("", "k", "M", "G", "T", "P", "E"))},
}
_QUANTITY = re.compile(
    r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,2}))?", re.ASCII
)
#: Longer than any quantity with a meaning; bounds the arithmetic below.
_MAX_QUANTITY_CHARS = 64
#: Enough digits that no sum of the above is ever rounded before the ceiling.
_EXACT = Context(prec=200)
#: Kubernetes caps a quantity here (2^63 - 1), silently; we refuse, since nobody means it.
_MAX_VALUE = 2**63 - 1

_DURATION = re.compile(r"(?:[0-9]{1,5}(?:h|ms|m|s)){1,4}", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+)(h|ms|m|s)", re.ASCII)
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
#: GEP-2257 allows five digits, so nothing longer can be written.
_MAX_HOURS = 99_999


def parse_bytes(text: str, path: str = "quantity") -> int:
    """Bytes of a Kubernetes quantity, rounded up to whole ones: `100Gi` is 107374182400.

    Raises:
        InvalidInput: `text` is no quantity, is negative or exceeds 2^63 - 1 bytes.
    """
    return _parse_quantity(text, path, Decimal(1), "100Gi")


def parse_cpu(text: str, path: str = "cpu") -> int:
    """Thousandths of a CPU, rounded up: `2` is 2000, `500m` is 500.

    Raises:
        InvalidInput: `text` is no quantity, is negative or exceeds 2^63 - 1 thousandths.
    """
    return _parse_quantity(text, path, Decimal(1000), "500m")


def parse_duration(text: str, path: str = "duration") -> float:
    """Seconds of a Gateway API duration, exact to the millisecond: `1h30m` is 5400.0.

    Raises:
        InvalidInput: `text` is no such duration.
    """
    if not _DURATION.fullmatch(text):
        raise InvalidInput(path, f"{_shown(text)} is not a duration; write it like 30s, 5m or 1h30m")
    milliseconds = sum(int(n) * _MILLISECONDS[unit] for n, unit in _DURATION_PART.findall(text))
    return milliseconds / 1000


def format_bytes(n_bytes: int) -> str:
    """The shortest exact quantity, binary before decimal: 107374182400 is `100Gi`, 500 * 10^9 is `500G`."""
    if not 0 <= n_bytes <= _MAX_VALUE:
        raise InvalidInput("n_bytes", "must be between 0 and 2^63 - 1")
    units = [*_BINARY.items(), *((s, int(f)) for s, f in _DECIMAL.items() if f > 1)]
    texts = [f"{n_bytes // factor}{suffix}" for suffix, factor in units if n_bytes % factor == 0]
    return min(texts, key=len) if n_bytes else "0"


def format_cpu(millicpu: int) -> str:
    """Thousandths of a CPU as a quantity: 2000 is `2`, 500 is `500m`."""
    if not 0 <= millicpu <= _MAX_VALUE:
        raise InvalidInput("millicpu", "must be between 0 and 2^63 - 1")
    return f"{millicpu}m" if millicpu % 1000 else str(millicpu // 1000)


def format_duration(seconds: float) -> str:
    """GEP-2257's normal form, rounded to the millisecond: 5400 is `1h30m`, 0 is `0s`."""
    if not 0 <= seconds <= _MAX_HOURS * 3600:
        raise InvalidInput("seconds", f"must be between 0 and {_MAX_HOURS} hours")
    rest = round(seconds * 1000)
    parts = []
    for unit, size in _MILLISECONDS.items():
        count, rest = divmod(rest, size)
        parts.append(f"{count}{unit}" if count else "")
    return "".join(parts) or "0s"


def _parse_quantity(text: str, path: str, scale: Decimal, example: str) -> int:
    match = _QUANTITY.fullmatch(text) if len(text) <= _MAX_QUANTITY_CHARS else None
    if match is None:
        raise InvalidInput(path, f"{_shown(text)} is not a quantity; write it like {example}")
    number, suffix, exponent = match.groups()
    if exponent is not None:
        factor = Decimal(10) ** int(exponent)
    else:
        factor = _DECIMAL.get(suffix or "") or Decimal(_BINARY[suffix])
    exact = _EXACT.multiply(_EXACT.multiply(Decimal(number), factor), scale)
    if exact > _MAX_VALUE:
        raise InvalidInput(path, f"{_shown(text)} is too large")
    return int(exact.to_integral_value(rounding=ROUND_CEILING, context=_EXACT))


def _shown(text: str) -> str:
    """What the user wrote, short enough for a message."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
