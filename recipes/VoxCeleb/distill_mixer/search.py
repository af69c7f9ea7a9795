#!/usr/bin/env python3
"""Look for a network that learns well and costs little.

    python search.py hparams/searches/student.yaml --corpus_dir data/mine \\
        --teacher_folder exp/mine/campplus/imported --trials 40 --max_latency_ms 5

Candidates are trained for a short while, one after another. Stopped and called again, the search
goes on where it was, and more `--trials` make it longer. `RESULTS.md` in its folder has the
candidates that no other beats; `best.yaml` there trains the best of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from speechbrain_ext.compare.search import Limits, Search, run_search
from speechbrain_ext.errors import UserError, friendly_exit

RECIPE = Path(__file__).resolve().parent


def main() -> None:
    """Search, and say where the results are."""
    parser = argparse.ArgumentParser(description="Look for a good and cheap network.")
    parser.add_argument("search", type=Path, help="a file of hparams/searches")
    parser.add_argument("--corpus_dir", type=Path, required=True, help="has manifests/")
    parser.add_argument("--teacher_folder", type=Path, required=True, help="its experiment folder")
    parser.add_argument("--trials", type=int, default=40, help="candidates in all")
    parser.add_argument("--max_params", type=float, help="parameters of a candidate at most")
    parser.add_argument("--max_latency_ms", type=float, help="milliseconds for 2 s at most")
    parser.add_argument("--out", type=Path, help="folder; exp/CORPUS/SEARCH by default")
    parser.add_argument("--seed", type=int, default=1, help="of the choices")
    args = parser.parse_args()
    for name in ("trials", "max_params", "max_latency_ms"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} {value} leaves nothing: give more than 0", code="bad-option")
    search = Search.read(args.search)
    folder = args.out or RECIPE / "exp" / args.corpus_dir.name / args.search.stem
    options = ["--corpus_dir", args.corpus_dir.resolve()]
    options += ["--teacher_folder", args.teacher_folder.resolve()]
    limits = Limits(args.max_params, args.max_latency_ms)
    words = [str(word) for word in options]
    print(f"Results: {run_search(search, folder, words, args.trials, limits, RECIPE, args.seed)}")


if __name__ == "__main__":
    with friendly_exit():
        main()
