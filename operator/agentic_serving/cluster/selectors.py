"""Label selectors in their text form, as lists take them: `a=b,c!=d,e,!f,g in (x,y),h notin (z)`. Pure."""

import re
from collections.abc import Mapping

from agentic_serving.errors import Rejected

__all__ = ["matches"]

_COMMA = re.compile(r",(?![^(]*\))")  # not inside parentheses
_TERM = re.compile(
    r"\s*(?P<no>!)?\s*(?P<key>[\w./-]+)\s*"
    r"(?:(?P<operator>==|=|!=)\s*(?P<value>[\w.-]*)|(?P<in>in|notin)\s*\((?P<values>[^)]*)\))?\s*"
)


def matches(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether labels satisfy every term; an empty selector matches everything.

    Raises:
        Rejected: a term cannot be read.
    """
    return all(_holds(term, labels) for term in _COMMA.split(selector) if term.strip())


def _holds(term: str, labels: Mapping[str, str]) -> bool:
    match = _TERM.fullmatch(term)
    if match is None:
        raise Rejected(f"unable to parse requirement: {term}", code=400, reason="BadRequest")
    value = labels.get(match["key"])
    if match["operator"]:
        return (value == match["value"]) is (match["operator"] != "!=")
    if match["in"]:
        listed = {each.strip() for each in match["values"].split(",")}
        return (value in listed) is (match["in"] == "in")
    return (value is None) is bool(match["no"])
