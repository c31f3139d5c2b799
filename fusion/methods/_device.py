"""Which device a method computes on: the machine's business, not the recipe's."""

import os
import subprocess
import sys
from functools import cache

from ..errors import FusionError


def device() -> str:
    """Return "cuda" where a GPU is found, else "cpu"; the environment variable ``FUSION_DEVICE`` overrides.

    Raises
    ------
    FusionError
        If ``FUSION_DEVICE`` names a device that is not here.
    """
    wanted = os.environ.get("FUSION_DEVICE", "auto")
    return _resolve(wanted)


@cache
def _resolve(wanted: str) -> str:
    if wanted == "cpu" or (wanted == "auto" and not _driver()):
        return "cpu"
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=wanted).device)
    except (RuntimeError, AssertionError) as error:
        raise FusionError(
            f"FUSION_DEVICE wants {wanted!r}, but torch {torch.__version__} cannot use it here: set it to cpu or auto."
        ) from error


def _driver() -> bool:
    """Tell whether a GPU may be here at all, so that a machine without one never waits for torch."""
    if sys.platform == "darwin":
        return False  # torch's mps lacks operations; FUSION_DEVICE=mps is there to try it
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=5).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
