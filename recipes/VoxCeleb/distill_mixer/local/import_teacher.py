#!/usr/bin/env python3
"""Bring a speaker model along as a trained experiment, to teach, to score and to compare with.

    python local/import_teacher.py campplus --out exp/mini/campplus/imported
    python local/import_teacher.py model.onnx --out exp/mini/model/imported [--framework wespeaker]
    python local/import_teacher.py speechbrain/spkrec-ecapa-voxceleb --out exp/mini/ecapa/imported

The model is a name of hparams/teachers, whose weights are fetched if they are not there, an ONNX or
TorchScript file, a folder that SpeechBrain loads (an export of this recipe is one) or its name on
the Hugging Face hub. Its YAML, and the program of a TorchScript file, are executed: trust them
first.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from hyperpyyaml import load_hyperpyyaml

from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.files import file_digest
from speechbrain_ext.systems.experiment import encoder_part, save_weights, weights_sha256
from speechbrain_ext.systems.fetch import fetch_checkpoint
from speechbrain_ext.systems.imported import model_settings
from speechbrain_ext.systems.weights import load_published
from speechbrain_ext.systems.yaml import resolve_hparams
from speechbrain_ext.training.identity import claim_experiment

RECIPE = Path(__file__).resolve().parents[1]
TEACHERS = RECIPE / "hparams/teachers"
ELSEWHERE = "choose another --out (--exp_root of run.sh)"


def main() -> None:
    """Write the experiment folder."""
    parser = argparse.ArgumentParser(
        description="Bring a speaker model along as a trained experiment.",
        epilog="Further options, --key value, override keys of the model's YAML.",
    )
    parser.add_argument("model", help="a name of hparams/teachers, file, folder or hub name")
    parser.add_argument("--out", type=Path, required=True, help="experiment folder to write")
    args, rest = parser.parse_known_args()
    path, overrides, settings = model_settings(args.model, rest, TEACHERS)
    checkpoint = None
    if "checkpoint" in settings:
        checkpoint = Path(settings["checkpoint"])
        if settings["package"] is not None:
            checkpoint = RECIPE / checkpoint
            fetch_checkpoint(settings, checkpoint)

    resolved = resolve_hparams(path, overrides)
    encoder = load_hyperpyyaml(encoder_part(resolved, path))
    network = encoder["embedding_model"]
    if checkpoint is not None:
        load_published(network, checkpoint)
    source = checkpoint or settings["model"]
    digest = file_digest(source) if os.path.isfile(source) else weights_sha256(network)
    known = {"lin_neurons": str(network.embedding_size), "checkpoint_sha256": digest}
    resolved = resolve_hparams(path, {**overrides, **known})
    claim_experiment(args.out, resolved, {}, ELSEWHERE)
    save_weights(args.out, network, {"imported_from": str(settings["source"])})
    count = sum(parameter.numel() for parameter in network.parameters())
    size = f"{count:,} parameters" if count else "a file of its own"
    print(
        f"{settings['source']} ({size}, embeddings of {network.embedding_size} numbers) in "
        f"{args.out}; licence {settings['licence']}"
    )


if __name__ == "__main__":
    with friendly_exit():
        main()
