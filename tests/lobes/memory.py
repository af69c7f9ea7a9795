"""What networks need in memory for speech of several lengths, for the tests of their contracts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Each network in a process of its own, whose peak is its own too; imports are made once.
SCRIPT = """
import importlib, os, resource, sys, torch
module, *names = sys.argv[1:]
make_encoder = importlib.import_module(module).make_encoder
for name in names:
    if os.fork() == 0:
        encoder, peaks = make_encoder(name), []
        with torch.inference_mode():
            for seconds in (15, 60, 105):
                encoder(0.1 * torch.randn(1, seconds * 16000))
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        print(name, *peaks, flush=True)
        os._exit(0)
    os.wait()
"""


def peaks_by_name(module: str, names: list[str]) -> dict[str, list[int]]:
    """Peak memory in kilobytes after 15, 60 and 105 s of speech in `module.make_encoder(name)`.

    Memory is asked for with a fixed threshold: left to itself, the C library keeps freed blocks of
    up to 32 MB for later, and the peak is then of what it kept and not of what was in use.
    """
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, module, *names],
        cwd=ROOT,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line.split() for line in result.stdout.splitlines())
    return {name: [int(peak) for peak in found] for name, *found in lines}


def check_linear(peaks: list[int]) -> None:
    """The next 45 s cost what those before did; were it quadratic, they would cost twice that."""
    first, second, third = peaks
    assert third - second < 1.2 * (second - first) + 5000
