"""What only a GPU can show, measured by one command in a few minutes.

    python -m tools.gpu_check --data SPEECH            on a GPU
    python -m tools.gpu_check --dry_run --out /tmp/x   the same on a CPU, tiny: does it run?

SPEECH is <speaker>/<session>/<utterance>.flac. Parts: correctness (precisions side by side, an
export), memory (of a step with WavLM-Large), embedding (utterances a second), nccl (torchrun with
one process), tests (those marked gpu), training (crops a second). Each runs in a process of its
own, with a limit of its own, and writes what it knows into OUT/figures.json at once; OUT/RESULTS.md
is made of that. Nothing is installed or fetched.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import atomic_path
from tools.gpu_check.page import page, verdicts
from tools.gpu_check.plan import RECIPE, Plan, environment, read_figures


class Part(NamedTuple):
    """The module of a measurement, which its own process imports, and the most seconds it takes."""

    module: str
    limit: float


PARTS = {
    "correctness": Part("correctness", 150),
    "memory": Part("cost", 75),
    "embedding": Part("cost", 40),
    "nccl": Part("correctness", 50),
    "tests": Part("correctness", 60),
    "training": Part("cost", 200),
}


def run_parts(options: argparse.Namespace, out: Path, work: Path) -> bool:
    """Run the parts one after another; whether all ended well."""
    begun, well = time.time(), True
    for name in options.parts:
        left = begun + 60 * options.minutes - time.time()
        limit = min(PARTS[name].limit * (10 if options.dry_run else 1), left)
        outcome, start = "no time was left", time.time()
        if limit > 5:
            command = [sys.executable, "-m", "tools.gpu_check", "--part", name, "--out", str(out)]
            command += ["--work", str(work), "--deadline", str(start + limit)]
            command += ["--dry_run"] if options.dry_run else []
            command += ["--data", str(options.data)] if options.data else []
            try:
                done = subprocess.run(command, env=environment(), timeout=limit)
                outcome = "done" if done.returncode == 0 else f"failed, status {done.returncode}"
            except subprocess.TimeoutExpired:
                outcome = f"stopped after {limit:.0f} s"
        plan = Plan(work, out, None, options.dry_run, 0)
        plan.figure(name, "outcome", outcome)
        plan.figure(name, "seconds", round(time.time() - start, 1))
        figures = read_figures(out / "figures.json")
        well &= outcome == "done" and all(good for good in verdicts(figures["parts"][name]))
        with atomic_path(out / "RESULTS.md") as temporary:
            temporary.write_text(page(figures), encoding="utf-8")
    return well


def machine(dry_run: bool) -> dict[str, Any]:
    """Where it was measured."""
    name = "CPU, dry run" if dry_run else torch.cuda.get_device_name()
    versions = {"PyTorch": torch.__version__, "Python": platform.python_version()}
    return {"device": name, **versions, "cores": os.cpu_count(), "date": str(date.today())}


def main() -> None:
    """Run all parts, or in a child one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, help="speech, 16 kHz mono; noise is made without it")
    parser.add_argument(
        "--out", type=Path, default=RECIPE / "results" / "gpu", help="folder of the figures"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts together")
    parser.add_argument("--dry_run", action="store_true", help="tiny, on the CPU")
    for name, kind in (("part", str), ("work", Path), ("deadline", float)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with friendly_exit():
        out, data = options.out.absolute(), options.data and options.data.absolute()
        if options.part:
            plan = Plan(options.work, out, data, options.dry_run, options.deadline)
            module = importlib.import_module(f"tools.gpu_check.{PARTS[options.part].module}")
            getattr(module, options.part)(plan)
            return
        if not options.dry_run and not torch.cuda.is_available():
            raise UserError(
                "there is no GPU here: give --dry_run to try the check on the CPU",
                code="bad-device",
            )
        if data and not data.is_dir():
            raise UserError(f"--data {data}: there is no such folder", code="missing-folder")
        options.data = data
        if options.dry_run and options.minutes == parser.get_default("minutes"):
            options.minutes = 60.0
        out.mkdir(parents=True, exist_ok=True)
        (out / "figures.json").write_text(
            json.dumps({"machine": machine(options.dry_run), "parts": {}}), encoding="utf-8"
        )
        with tempfile.TemporaryDirectory(prefix="gpu_check_") as work:
            well = run_parts(options, out, Path(work))
        print(f"wrote {out / 'RESULTS.md'}")
        if not well:
            raise UserError(f"something is amiss: see {out / 'RESULTS.md'}", code="failed-process")


if __name__ == "__main__":
    main()
