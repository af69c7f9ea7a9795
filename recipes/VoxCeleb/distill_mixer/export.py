#!/usr/bin/env python3
"""Write a trained system as a folder that leaves the recipe.

    python export.py exp/mini/v2/seed_1 [--out DIR] [--formats onnx]

SpeechBrain's inference classes load the folder; it is loaded once before it is put in place, and
has a README of its own. It holds the decision threshold of the speakers held out of training, where
these have been scored. Files of the formats `onnx`, `int8` and `fp16` run without PyTorch. They are
made with the training speech of the corpus, and compared with PyTorch on its held-out speech and
its trial lists. By default there are `onnx` and `int8`, where the network can leave PyTorch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.export.command import FORMATS, export_experiment


def main() -> None:
    """Write the folder and say what is in it."""
    parser = argparse.ArgumentParser(description="Write a folder that leaves the recipe.")
    parser.add_argument("experiment", type=Path, help="folder of a finished training")
    parser.add_argument("--out", type=Path, help="folder to write; EXPERIMENT/export by default")
    parser.add_argument(
        "--formats", nargs="+", choices=["none", *FORMATS], help="files that run without PyTorch"
    )
    parser.add_argument(
        "--manifests",
        type=Path,
        help="folder made by stage 1, for these files; that of the training by default",
    )
    args = parser.parse_args()
    for line in export_experiment(args.experiment, args.out, args.formats, args.manifests):
        print(line)


if __name__ == "__main__":
    with friendly_exit():
        main()
