"""The student under SpeechBrain's own VoxCeleb recipe.

The recipe is not in the package on PyPI: with SPEECHBRAIN_RECIPES naming the folder ``recipes`` of
a clone, its script is run; without, what the script does with the YAML is done here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml

ROOT = Path(__file__).resolve().parents[2]
YAML = ROOT / "recipes" / "VoxCeleb" / "distill_mixer" / "hparams" / "upstream" / "train_mixer.yaml"
RECIPES = os.environ.get("SPEECHBRAIN_RECIPES", "")
SPEAKERS = 4


def write_sound(path: Path, seconds: float, rng: np.random.Generator) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * rng.standard_normal(int(16000 * seconds)), 16000)
    return path


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, Any]:
    """A VoxCeleb in miniature, and archives of noise and impulse responses."""
    rng = np.random.default_rng(0)
    for speaker in range(SPEAKERS):
        for session in range(6):
            name = f"wav/id1000{speaker}/s{session}/00001.wav"
            write_sound(tmp_path / "voxceleb" / name, 4.5, rng)
    for kind, seconds in (("noise", 3.0), ("rir", 0.2)):
        sound = write_sound(tmp_path / f"{kind}.wav", seconds, rng)
        with zipfile.ZipFile(tmp_path / f"{kind}.zip", "w") as archive:
            archive.write(sound, sound.name)
    trials = tmp_path / "veri_test2.txt"
    trials.write_text("1 id10270/s0/00001.wav id10270/s1/00001.wav\n")
    return {
        "data_folder": str(tmp_path / "voxceleb"),
        "output_folder": str(tmp_path / "out"),
        "verification_file": str(trials),
        "noise_url": str(tmp_path / "noise.zip"),
        "rir_url": str(tmp_path / "rir.zip"),
        "out_n_neurons": SPEAKERS,
        "number_of_epochs": 1,
        "batch_size": 4,
        "num_workers": 0,
    }


def test_yaml_gives_all_that_the_script_calls(overrides: dict[str, Any]) -> None:
    hparams = load_hyperpyyaml(YAML.read_text(encoding="utf-8"), overrides)
    for key in ("split_ratio", "skip_prep", "sentence_len", "train_annotation", "valid_annotation"):
        assert key in hparams
    assert hparams["random_chunk"] is True and hparams["dataloader_options"]["batch_size"] == 4
    hparams["prepare_noise_data"]()
    hparams["prepare_rir_data"]()

    modules = torch.nn.ModuleDict(hparams["modules"]).train()
    optimiser = hparams["opt_class"](modules.parameters())
    wavs = 0.1 * torch.randn(3, int(hparams["sentence_len"] * hparams["sample_rate"]))
    labels = torch.tensor([[0], [1], [3]])
    wavs, lens = hparams["wav_augment"](wavs, torch.ones(3))
    labels = hparams["wav_augment"].replicate_labels(labels)
    assert wavs.shape[0] == labels.shape[0] == 6

    feats = modules["mean_var_norm"](modules["compute_features"](wavs), lens)
    predictions = modules["classifier"](modules["embedding_model"](feats))
    assert predictions.shape == (6, 1, SPEAKERS)
    loss = hparams["compute_cost"](predictions, labels, lens)
    loss.backward()
    optimiser.step()

    errors = hparams["error_stats"]()
    errors.append([str(index) for index in range(6)], predictions, labels, lens)
    assert 0 <= errors.summarize("average") <= 1
    old, new = hparams["lr_annealing"](1)
    assert (old, new) == (pytest.approx(0.001), pytest.approx(0.00095))
    hparams["checkpointer"].save_and_keep_only(meta={"ErrorRate": 0.5}, min_keys=["ErrorRate"])


def test_the_lines_that_the_docs_change_fit_each_other() -> None:
    blocks = (ROOT / "docs/extending.md").read_text(encoding="utf-8").split("```yaml\n")[1:]
    (lines,) = [b for b in (block.split("```")[0] for block in blocks) if "compute_features" in b]
    hparams = load_hyperpyyaml(f"out_n_neurons: {SPEAKERS}\n{lines}")
    feats = hparams["mean_var_norm"](hparams["compute_features"](torch.randn(2, 8000)))
    assert hparams["classifier"](hparams["embedding_model"](feats)).shape == (2, 1, SPEAKERS)


@pytest.mark.skipif(not RECIPES, reason="SPEECHBRAIN_RECIPES does not name SpeechBrain's recipes")
def test_the_script_itself(overrides: dict[str, Any]) -> None:
    folder = Path(RECIPES) / "VoxCeleb" / "SpeakerRec"
    command = [sys.executable, "train_speaker_embeddings.py", str(YAML), "--device=cpu"]
    command += [f"--{key}={value}" for key, value in overrides.items()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    out = Path(overrides["output_folder"])
    assert "epoch: 1" in (out / "train_log.txt").read_text()
    assert list(out.glob("save/CKPT*/embedding_model.ckpt"))
