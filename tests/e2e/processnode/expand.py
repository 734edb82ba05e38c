"""`$(VAR)` in env, command and args, as Kubernetes expands it. Pure.

Source: k8s.io/kubernetes third_party/forked/golang/expansion: `$$` is a dollar, an unknown name stays as written.
"""

import re
from collections.abc import Mapping

__all__ = ["expand"]

_REFERENCE = re.compile(r"\$(\$|\(([^)]*)\))")


def expand(text: str, values: Mapping[str, str]) -> str:
    """The text with every reference to a known variable replaced by its value."""

    def replaced(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return values.get(found[2], found[0])

    return _REFERENCE.sub(replaced, text)
