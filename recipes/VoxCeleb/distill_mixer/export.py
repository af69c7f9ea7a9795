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
from typing import TYPE_CHECKING

from speechbrain_ext.errors import UserError, brought_by, friendly_exit
from speechbrain_ext.export.card import count_words
from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.systems.experiment import read_hyperparams

if TYPE_CHECKING:
    from speechbrain_ext.export.engine_files import Speech

FORMATS = {"onnx": "fp32", "int8": "int8", "fp16": "fp16"}
DEFAULT = ("onnx", "int8")
# Where nobody asked for them, there are no such files for want of these.
WITHOUT = ("no-graph", "missing-package", "missing-option", "earlier-stage", "few-files")


def main() -> None:
    """Write ``export/`` into the experiment folder, or the folder asked for."""
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

    folder = args.out or args.experiment / "export"
    precisions = [FORMATS[name] for name in FORMATS if name in (args.formats or DEFAULT)]
    try:
        speech = _speech(args) if precisions else None
        facts = write_model_folder(args.experiment, folder, precisions, speech)
    except UserError as error:
        if args.formats or error.code not in WITHOUT:
            raise
        print(f"Exported to SpeechBrain alone: {error}")
        facts = write_model_folder(args.experiment, folder)
    print(
        f"{args.experiment} exported to {folder}: {count_words(facts['parameters'])}, "
        f"{facts['speakers']} speakers, embeddings within {facts['difference']:.1e} of the recipe's"
    )
    for file in facts["files"]:
        least = min(each["cosine"] for each in file["parity"])
        print(
            f"{file['file']}: {file['bytes'] / 1e6:.1f} MB, cosine to PyTorch {least:.5f} or more"
        )
    if facts["files"] and not any(file["input"] == "features" for file in facts["files"]):
        print(
            "There is no speaker-embedding.onnx: no engine computes the features that this system "
            "reads. Students from V4 on read Kaldi's."
        )


def _speech(args: argparse.Namespace) -> Speech:
    """What the files are made and measured with; by default what the system was trained with."""
    with brought_by("export"):
        from speechbrain_ext.export.engine_files import Speech
    if args.manifests is not None:
        return Speech.of(args.manifests)
    train_csv = read_hyperparams(args.experiment).get("train_csv")
    if train_csv is None:
        raise UserError(
            f"{args.experiment} was trained elsewhere, and its files are made with speech: give "
            "the folder of a corpus by --manifests, or --formats none",
            code="missing-option",
        )
    return Speech.of(Path(train_csv).parent)


if __name__ == "__main__":
    with friendly_exit():
        main()
