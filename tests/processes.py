"""Processes that tests start."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
HANG = 1800  # seconds after which a command does not end any more, on however busy a machine


def environment(gpus: str = "") -> dict[str, str]:
    """One thread, the package of this tree, and only the GPUs named."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": gpus}
