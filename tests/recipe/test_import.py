"""Checkpoints of voxceleb_trainer become experiment folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from local import import_voxceleb_trainer
from speechbrain_ext.systems.experiment import load_encoder
from tests.lobes.published_networks import (
    PublishedFrontEnd,
    PublishedLSTMAutoencoder,
    PublishedMixer,
    randomise_norms,
)
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[2]
HPARAMS = ROOT / "recipes" / "VoxCeleb" / "distill_mixer" / "hparams"
FIXTURES = Path(
    os.environ.get("VOXCELEB_TRAINER_PARITY", ROOT.parent / "shared/data/voxceleb_trainer_parity")
)
SYSTEMS = {
    "teacher": (
        HPARAMS / "teacher.yaml",
        {"conv_channels": 16, "latent_size": 12, "lstm_size": 10, "lin_neurons": 8},
    ),
    "student": (
        HPARAMS / "v2.yaml",
        {"channels": 16, "num_blocks": 2, "expansion": 2, "groups": 2, "lin_neurons": 8},
    ),
}


def published(system: str) -> nn.Module:
    """The network of SYSTEMS in its published form."""
    torch.manual_seed(3)
    if system == "teacher":
        network = PublishedLSTMAutoencoder(width=16, latent=12, lstm_size=10, embedding=8)
        return randomise_norms(network)
    return randomise_norms(
        PublishedMixer(channels=16, num_blocks=2, expansion=2, groups=2, embedding=8)
    )


def run_import(checkpoint: Path, system: str, out: Path, **sizes: int) -> None:
    """Run the script's ``main`` in this process."""
    yaml, defaults = SYSTEMS[system]
    argv = ["import_voxceleb_trainer.py", str(checkpoint), str(yaml), "--out", str(out)]
    for key, value in {**defaults, **sizes}.items():
        argv += [f"--{key}", str(value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", argv)
        import_voxceleb_trainer.main()


def save(state: dict[str, Tensor], path: Path, prefix: str = "") -> Path:
    torch.save({prefix + name: value for name, value in state.items()}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "__S__.", "module.__S__."])
@pytest.mark.parametrize("system", list(SYSTEMS))
def test_same_embeddings_whatever_the_prefix(system: str, prefix: str, tmp_path: Path) -> None:
    network = published(system)
    state = {**network.state_dict(), "torchfb.spectrogram.window": torch.ones(400)}
    checkpoint = save(state, tmp_path / "x.model", prefix)
    run_import(checkpoint, system, tmp_path / "exp")
    wavs = torch.randn(2, 16000)
    with torch.no_grad():
        ours = load_encoder(tmp_path / "exp")(wavs).squeeze(1)
        theirs = network(PublishedFrontEnd()(wavs))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_classifier_is_left_out_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {f"__S__.{k}": v for k, v in published("student").state_dict().items()}
    state["__L__.weight"] = torch.ones(5, 8)
    run_import(save(state, tmp_path / "x.model"), "student", tmp_path / "exp")
    assert "classifier of the checkpoint was left out" in capsys.readouterr().out


@pytest.mark.parametrize("system", list(SYSTEMS))
def test_missing_and_surplus_keys_are_named(system: str, tmp_path: Path) -> None:
    state = dict(published(system).state_dict())
    bias = state.pop("fc.bias")
    with refused("other-network", "x.model", "lacks", "fc.bias"):
        run_import(save(state, tmp_path / "x.model"), system, tmp_path / "exp")
    state |= {"fc.bias": bias, "fc.surplus": bias}
    with refused("other-network", "x.model", "has not", "fc.surplus"):
        run_import(save(state, tmp_path / "x.model"), system, tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


def test_other_network_and_other_sizes(tmp_path: Path) -> None:
    checkpoint = save(dict(published("student").state_dict()), tmp_path / "x.model")
    with refused("other-network", "x.model", "autoencoder.encoder.0.weight"):
        run_import(checkpoint, "teacher", tmp_path / "exp")
    with refused("other-network", "frontend.0.weight", "[16, 80, 3]", "[32, "):
        run_import(checkpoint, "student", tmp_path / "exp", channels=32)
    with refused("unknown-key", "'chanels'", "--channels"):
        run_import(checkpoint, "student", tmp_path / "exp", chanels=32)
    with refused("bad-setting", "groups=3"):
        run_import(checkpoint, "student", tmp_path / "exp", groups=3)


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    with refused("missing-file", path):
        run_import(path, "student", tmp_path / "exp")
    path.write_text("no checkpoint")
    with refused("bad-weights", path, "tensors alone"):
        run_import(path, "student", tmp_path / "exp")
    torch.save({"epoch": 3}, path)
    with refused("bad-weights", path, "state dict"):
        run_import(path, "student", tmp_path / "exp")
    torch.save(nn.Linear(2, 2), path)  # a whole pickled module: code, not data
    with refused("bad-weights", path, "tensors alone"):
        run_import(path, "student", tmp_path / "exp")


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"{FIXTURES} is not there")
@pytest.mark.parametrize(
    ("system", "sizes"),
    [
        ("teacher", {"conv_channels": 256, "latent_size": 24, "lstm_size": 40, "lin_neurons": 64}),
        (
            "student",
            {"channels": 48, "num_blocks": 3, "expansion": 3, "groups": 4, "lin_neurons": 64},
        ),
    ],
)
def test_embeddings_of_the_trainer_itself(
    system: str, sizes: dict[str, int], tmp_path: Path
) -> None:
    run_import(FIXTURES / f"{system}_tiny.model", system, tmp_path, **sizes)
    expected = np.load(FIXTURES / "expected.npz")
    with torch.no_grad():
        embeddings = load_encoder(tmp_path)(torch.from_numpy(expected["wave"])).squeeze(1)
    np.testing.assert_allclose(embeddings.numpy(), expected[system], atol=1e-4, rtol=0)
