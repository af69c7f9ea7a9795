"""Where a part of the check runs, how much of it, and where its figures go."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from speechbrain_ext.files import atomic_path

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "VoxCeleb" / "distill_mixer"


class Plan(NamedTuple):
    """Where it runs, and how much."""

    work: Path  # a folder for what is made on the way
    out: Path
    data: Path | None
    dry_run: bool
    deadline: float  # of the part, in time.time()

    @property
    def device(self) -> str:
        """Where networks are computed."""
        return "cpu" if self.dry_run else "cuda"

    def figure(self, part: str, name: str, value: Any) -> None:
        """Write a figure down; what is known stays if the part is stopped."""
        path = self.out / "figures.json"
        figures = read_figures(path)
        figures.setdefault("parts", {}).setdefault(part, {})[name] = value
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(f"{part}: {name}: {json.dumps(value)}", flush=True)

    def time_left(self, seconds: float) -> bool:
        """Whether something that takes so long still fits."""
        return time.time() + seconds < self.deadline


def read_figures(path: Path) -> dict[str, Any]:
    """What has been measured so far."""
    with contextlib.suppress(FileNotFoundError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def allow_tf32(allowed: bool) -> None:
    """Whether products of fp32 may be computed with ten bits of their fractions."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def environment() -> dict[str, str]:
    """That of commands which are started from here."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def output_of(command: list[str]) -> str:
    """What a command of the recipe prints; its own words where it fails."""
    done = subprocess.run(command, cwd=RECIPE, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-3000:]}")
    return done.stdout
