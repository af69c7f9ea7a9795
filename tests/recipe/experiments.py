"""Experiment folders as a finished training leaves them, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.models.ECAPA_TDNN import Classifier

from speechbrain_ext.systems.experiment import (
    encoder_part,
    load_encoder,
    save_weights,
    weights_sha256,
)
from speechbrain_ext.systems.yaml import resolve_hparams
from tests.lobes.published_networks import randomise_norms

HPARAMS = Path(__file__).resolve().parents[2] / "recipes" / "VoxCeleb" / "distill_mixer" / "hparams"
SIZES = {
    "teacher": {"lin_neurons": "8", "conv_channels": "16", "latent_size": "12", "lstm_size": "10"},
    "v2": {"lin_neurons": "8", "channels": "16", "num_blocks": "2"},
    "v5_quarter": {"lin_neurons": "8", "channels": "16", "num_blocks": "2"},
}
SPEAKERS = ["id00003", "id00001", "id00002"]


def make_experiment(folder: Path, system: str = "v2", classifier: bool = True) -> Path:
    """Write ``hyperparams.yaml``, the weights, and a scored test."""
    torch.manual_seed(5)
    yaml = HPARAMS / f"{system}.yaml"
    resolved = resolve_hparams(yaml, SIZES[system])
    folder.mkdir(parents=True)
    (folder / "hyperparams.yaml").write_text(resolved, encoding="utf-8")
    model = load_hyperpyyaml(encoder_part(resolved, yaml))["embedding_model"]
    save_weights(folder, randomise_norms(model), {})
    if classifier:
        save_weights(folder, Classifier(8, out_neurons=len(SPEAKERS)), {}, "classifier")
        encoder = CategoricalEncoder()
        encoder.update_from_iterable(SPEAKERS)
        encoder.save(folder / "save" / "label_encoder.txt")
    (folder / "results").mkdir()
    weights = weights_sha256(load_encoder(folder).embedding_model)
    for name, threshold in (("test", 0.4321), ("valid", 0.3456)):
        result = {"title": f"Mini {name}", "synthetic": True, "eer": 7.25}
        result |= {"eer_threshold": threshold, "weights_sha256": weights}
        path = folder / "results" / f"{name}.json"
        path.write_text(json.dumps(result), encoding="utf-8")
    return folder
