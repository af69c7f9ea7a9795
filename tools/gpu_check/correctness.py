"""Whether a GPU computes what a CPU does, in every precision and under torchrun."""

from __future__ import annotations

import math
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.systems.experiment import load_encoder
from speechbrain_ext.systems.pretrained import load_pretrained
from tools.gpu_check.plan import ROOT, Plan, allow_tf32, environment, output_of
from tools.gpu_check.trainings import SYSTEMS, TEACHER, arguments_of, train

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
STEPS = 30
# How far a loss may be from that in fp32: at the first step, and the mean of the last third.
DISTANCES = {"fp32": (0.0, 0.0), "tf32": (0.01, 0.05), "bf16": (0.03, 0.10), "fp16": (0.03, 0.10)}
# And an export's embedding on the GPU from the CPU's, as a share of its length.
EMBEDDING = 1e-3
# And an embedding of a network trained under torchrun from that of one trained without. Adam makes
# whole steps of the rounding in gradients that are zero, such as those before a normalisation.
TORCHRUN = 1e-2


def correctness(plan: Plan) -> None:
    """Losses of every system in every precision, and an export of V2."""
    steps, batch = (4, 8) if plan.dry_run else (STEPS, 64)
    for system in SYSTEMS:
        losses: dict[str, list[float]] = {}
        wanted: Sequence[str] = PRECISIONS
        if plan.dry_run:  # fp16 is for GPUs
            wanted = ("fp32", "bf16") if system == "v2" else ("fp32",)
        for precision in wanted:
            folder = plan.work / system / precision
            line = arguments_of(plan, system, folder, steps, batch)
            losses[precision] = train(plan, system, precision, line)
            plan.figure("correctness", f"{system} {precision}", compare_losses(losses, precision))
        if system == "v2":
            plan.figure("correctness", "export", compare_export(plan, folder.parent / "fp32"))


def compare_losses(losses: dict[str, list[float]], precision: str) -> dict[str, Any]:
    """First and last losses of a precision, their distance from fp32, and whether it will do."""
    own, exact = losses[precision], losses["fp32"]
    tail = max(1, len(own) // 3)
    last, last_exact = statistics.fmean(own[-tail:]), statistics.fmean(exact[-tail:])
    first, end = abs(own[0] / exact[0] - 1), abs(last / last_exact - 1)
    near = first <= DISTANCES[precision][0] and end <= DISTANCES[precision][1]
    return {
        "steps": len(own),
        "first_loss": own[0],
        "last_losses": last,
        "first_distance": first,
        "last_distance": end,
        "good": near and all(map(math.isfinite, own)),
    }


@torch.no_grad()
def compare_export(plan: Plan, experiment: Path) -> dict[str, Any]:
    """Embeddings of a folder exported where it was trained: the GPU's against the CPU's."""
    allow_tf32(False)
    folder = plan.work / "export"
    write_model_folder(experiment, folder)
    encoder = load_pretrained(folder)
    noise = 0.1 * torch.randn(4, 48000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([1.0, 0.9, 0.5, 0.3])
    expected = encoder(noise, lengths)
    found = encoder.to(plan.device)(noise.to(plan.device), lengths.to(plan.device)).cpu()
    return distance(found, expected, EMBEDDING)


@torch.no_grad()
def nccl(plan: Plan) -> None:
    """One process under torchrun ends as one without."""
    steps, batch = (4, 8) if plan.dry_run else (10, 64)
    noise = 0.1 * torch.randn(4, 32000, generator=torch.Generator().manual_seed(0))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    embeddings = []
    for name, launcher in (("alone", []), ("torchrun", torchrun)):
        folder = plan.work / f"nccl_{name}"
        command = [sys.executable, *launcher, "train_teacher.py"]
        command += arguments_of(plan, TEACHER, folder, steps, batch)
        if launcher:
            command += ["--distributed_backend", "gloo" if plan.dry_run else "nccl"]
        output_of(command)
        embeddings.append(load_encoder(folder)(noise))
    alone, under = embeddings
    figures = {"steps": steps, **distance(under, alone, TORCHRUN)}
    plan.figure("nccl", "torchrun, one process", figures)


def distance(found: Tensor, expected: Tensor, bound: float) -> dict[str, Any]:
    """The largest distance between embeddings, as a share of their length."""
    largest = ((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max().item()
    return {"largest_distance": largest, "good": largest <= bound}


def tests(plan: Plan) -> None:
    """pytest's tests marked gpu."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/recipe/test_gpu.py",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    print(done.stdout[-4000:], flush=True)
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    wanted = "skipped" if plan.dry_run else "passed"
    good = done.returncode == 0 and counts.get(wanted, 0) > 0
    plan.figure("tests", "pytest -m gpu", {**counts, "good": good})
