"""Where the data that ships with the package lies: `templates/` and `crds/`.

Looked up in this order: `AGENTIC_SERVING_ASSETS_DIR`, the wheel's `_assets` folder, the checkout. (With an
editable install the wheel's folder lands in site-packages, away from this package, hence the checkout.)
"""

import os
from functools import cache
from pathlib import Path

from agentic_serving.errors import Bug

__all__ = ["assets_dir", "crds_dir", "templates_dir"]


@cache
def assets_dir() -> Path:
    """The folder that holds `templates/` and `crds/`."""
    package = Path(__file__).parent
    candidates = [package / "_assets", package.parents[1]]
    override = os.environ.get("AGENTIC_SERVING_ASSETS_DIR")
    if override:
        candidates.insert(0, Path(override))
    for folder in candidates:
        if (folder / "templates" / "accelerators").is_dir():
            return folder
    raise Bug(f"no templates/ in any of {', '.join(map(str, candidates))}")


def templates_dir() -> Path:
    return assets_dir() / "templates"


def crds_dir() -> Path:
    return assets_dir() / "crds"
