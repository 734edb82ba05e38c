"""YAML that people read and diff: keys in the order given, no anchors, text as it is."""

import yaml

__all__ = ["dump"]


class _NoAliases(yaml.CSafeDumper):
    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the base class's signature
        """Equal parts are repeated rather than referred to."""
        return True


def dump(document: object, *, width: int = 110) -> str:
    """Equal documents give equal text.

    Args:
        width: where long texts are folded; a large number for text that machines embed.
    """
    return str(yaml.dump(document, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=width))
