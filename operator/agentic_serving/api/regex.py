"""Whether a user's regular expression is safe to give to Envoy.

One expression that RE2 refuses makes Envoy refuse its whole configuration, so only a subset is accepted that
RE2 certainly compiles: https://github.com/google/re2/wiki/Syntax. What is not in it: look-around and
back-references (RE2 has none), named groups, flags other than a leading `(?i)`, Unicode classes, and repetitions
whose expansion is large. No expression is ever run here: Python's engine backtracks, RE2 does not.
"""

import re
from collections.abc import Iterator

__all__ = ["why_refused"]

#: RE2 refuses counted repetitions that multiply to more (re2/parse.cc, maximum_repeat_count).
MAX_REPEAT = 1000
#: Length times repetitions. `.` takes about a dozen instructions, so 60,000 at most; RE2's 8 MiB hold several times that.
MAX_EXPANSION = 5000
MAX_DEPTH = 32

_ESCAPED = r"\\[dDsSwW]|\\[!-/:-@\[-`{-~]"
_CLASS_ITEM = rf"[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|{_ESCAPED}|[^\[\]\\^\-]"
_TOKEN = re.compile(
    r"(?P<count>\{(?P<low>[0-9]{1,4})(?:,(?P<high>[0-9]{0,4}))?\}\??)"
    r"|(?P<many>[*+?]\??)"
    r"|(?P<open>\(\?:|\((?!\?))"
    r"|(?P<close>\))"
    r"|(?P<either>\|)"
    r"|(?P<anchor>[\^$]|\\[bB])"
    rf"|(?P<atom>\.|{_ESCAPED}|\[\^?(?:{_CLASS_ITEM})+-?\]|[^\\\[\](){{}}*+?|^$.])"
)
_RANGE = re.compile(r"\\.|([A-Za-z0-9])-([A-Za-z0-9])")


class _Refused(Exception):
    """Why an expression is refused; never leaves this module."""


def why_refused(pattern: str) -> str | None:
    """None if Envoy will compile it, else what is wrong, as a clause about the expression."""
    if any(not " " <= char <= "~" for char in pattern):
        return "has characters outside printable ASCII"
    body = pattern.removeprefix("(?i)")
    try:
        _check_structure(body)
        _check_expansion(body)
    except _Refused as refused:
        return str(refused)
    return None


def _tokens(body: str) -> Iterator[tuple[str, re.Match[str]]]:
    position = 0
    while position < len(body):
        token = _TOKEN.match(body, position)
        if token is None:
            raise _Refused(f"has something that RE2 may not take, at {body[position : position + 8]!r}")
        kind = next(
            name for name in ("count", "many", "open", "close", "either", "anchor", "atom") if token[name]
        )
        yield kind, token
        position = token.end()


def _check_structure(body: str) -> None:
    depth, repeatable = 0, False
    for kind, token in _tokens(body):
        if kind in ("count", "many") and not repeatable:
            raise _Refused(f"repeats nothing, or a repetition, at {token[0]!r}")
        if kind == "atom" and any(low and low > high for low, high in _RANGE.findall(token[0])):
            raise _Refused(f"has a range that runs backwards in {token[0]!r}")
        depth += (kind == "open") - (kind == "close")
        if depth < 0:
            raise _Refused("has a closing parenthesis without its opening one")
        if depth > MAX_DEPTH:
            raise _Refused("nests too deeply")
        repeatable = kind in ("atom", "close")
    if depth:
        raise _Refused("has an opening parenthesis without its closing one")


def _check_expansion(body: str) -> None:
    """An upper bound: every repetition is taken as if it repeated the whole expression."""
    repeats = 1
    for kind, token in _tokens(body):
        if kind != "count":
            continue
        low = int(token["low"])
        high = int(token["high"] or low)
        if high < low:
            raise _Refused(f"has an impossible repetition {token[0]!r}")
        repeats *= max(1, high)
    if repeats > MAX_REPEAT or repeats * len(body) > MAX_EXPANSION:
        raise _Refused("has counted repetitions that expand to too much")
