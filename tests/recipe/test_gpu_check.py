"""The GPU check on a CPU: every part runs, and a bad figure is not taken for a good one."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import environment
from tools.gpu_check.__main__ import PARTS
from tools.gpu_check.correctness import compare_losses
from tools.gpu_check.page import page

ROOT = Path(__file__).resolve().parents[2]


def check(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [sys.executable, "-m", "tools.gpu_check", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_dry_run_of_every_part(tmp_path: Path) -> None:
    done = check("--dry_run", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    assert list(found["parts"]) == list(PARTS)
    assert {part["outcome"] for part in found["parts"].values()} == {"done"}
    training = found["parts"]["training"]
    assert training["fp32, batch 4"]["v2"]["crops_a_second"] > 0
    assert 0 < training["v2 and its teacher, bf16, the real loader"]["crops_a_second"]
    text = (tmp_path / "RESULTS.md").read_text()
    assert "CPU, dry run" in text and all(f"## {part}: done" in text for part in PARTS)


def test_without_time_nothing_is_called_good(tmp_path: Path) -> None:
    done = check("--dry_run", "--out", tmp_path, "--minutes", "0.01", "--parts", "nccl")
    assert done.returncode == 1
    assert done.stderr.startswith("error: something is amiss: see ")
    assert "## nccl: no time was left" in (tmp_path / "RESULTS.md").read_text()


def test_without_a_gpu(tmp_path: Path) -> None:
    done = check("--out", tmp_path / "out")
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert done.stderr == (
        "error: there is no GPU here: give --dry_run to try the check on the CPU\n"
    )


@pytest.mark.parametrize(
    ("losses", "precision", "good"),
    [
        ([10.0, 8.0, 6.1], "bf16", True),
        ([10.0, 8.0, 7.0], "bf16", False),
        ([11.0, 8.0, 6.0], "bf16", False),
        ([10.0, math.nan, 6.0], "bf16", False),
        ([10.0, 8.0, 6.5], "tf32", False),
        ([10.0, 8.0, 6.0], "fp32", True),
    ],
)
def test_losses_near_those_of_fp32(losses: list[float], precision: str, good: bool) -> None:
    figures = compare_losses({"fp32": [10.0, 8.0, 6.0], precision: losses}, precision)
    assert figures["good"] is good
    parts = {"correctness": {"x": figures, "outcome": "done", "seconds": 1.0}}
    text = page({"machine": {"device": "x"}, "parts": parts})
    assert ("good yes" in text) is good and ("good NO" in text) is not good
