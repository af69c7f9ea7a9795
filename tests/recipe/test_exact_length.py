"""SpeechBrain's networks as teachers and baselines: sizes, contract, a whole training."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import export
import pytest
import torch
from speechbrain.inference.classifiers import EncoderClassifier
from torch import nn

from speechbrain_ext.distill.teacher import FrozenTeacher
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.exact_length import ExactLength
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.nnet.normalization import UtteranceNorm
from speechbrain_ext.systems.experiment import load_encoder
from speechbrain_ext.systems.yaml import load_hparams
from tests.lobes.systems import SPEECHBRAINS
from tests.recipe.tiny import COMMON, RECIPE, make_corpus, run

ECAPA_LAYERS = {"blocks.1": 512, "blocks.2": 512, "blocks.3": 512, "mfa": 1536}
SYSTEMS: dict[str, tuple[int, int, dict[str, int]]] = {
    "ecapa_tdnn": (6_194_048, 192, ECAPA_LAYERS),
    "resnet34_se": (7_660_704, 256, {}),
    "resnetse34l": (1_499_576, 512, {}),
    "xvector": (4_354_964, 512, {}),
}
NETWORKS = list(SPEECHBRAINS)


def make_network(name: str) -> nn.Module:
    """One of SpeechBrain's, small."""
    return SPEECHBRAINS[name][0]()


def make_lobe(name: str) -> ExactLength:
    """A small lobe in eval mode, its norms moved."""
    torch.manual_seed(0)
    lobe = ExactLength(make_network(name), input_size=80, layers=SPEECHBRAINS[name][1])
    for _ in range(5):
        lobe(torch.randn(4, 40, 80))
    return lobe.eval()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpora") / "little")


@pytest.mark.parametrize("system", SYSTEMS)
def test_sizes(system: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hparams, _ = load_hparams(RECIPE / "hparams" / f"{system}.yaml", {"corpus_dir": str(corpus)})
    lobe: Any = hparams["embedding_model"]
    parameters, size, layers = SYSTEMS[system]
    assert hparams["system"] == system
    assert sum(p.numel() for p in lobe.parameters()) == parameters
    assert lobe.embedding_size == size and lobe.layers == layers
    assert hparams["classifier"].weight.shape == (6, size)
    assert lobe.training and all(module.training for module in lobe.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_changes_nothing(name: str) -> None:
    lobe = make_lobe(name)
    frames = torch.tensor([150, 31, 1, 149, 31, 4])
    feats = torch.randn(6, 150, 80)
    for index, count in enumerate(frames):
        feats[index, count:] = 1e3
    with torch.no_grad():
        together, hidden = lobe.forward_intermediates(feats, frames / 150)
        assert together.shape == (6, 1, 8) and together.isfinite().all()
        assert torch.equal(together, lobe(feats, frames / 150))
        for index, count in enumerate(frames):
            alone, layers = lobe.forward_intermediates(feats[index : index + 1, :count])
            torch.testing.assert_close(together[index], alone[0], atol=1e-5, rtol=0)
            for padded, layer in zip(hidden, layers, strict=True):
                assert padded.shape[:2] == (6, 150) and layer.shape[1] == count
                torch.testing.assert_close(padded[index, :count], layer[0], atol=1e-5, rtol=1e-5)
                assert not padded[index, count:].any()
        # The network by itself lets padding in, told of the lengths or not.
        unaware = lobe.network(feats, frames / 150).reshape(6, 1, 8)
    assert not torch.allclose(unaware[1], together[1], atol=1e-2)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seconds", [0.3, 60.0])
def test_any_length(name: str, seconds: float) -> None:
    encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), make_lobe(name)).eval()
    with torch.no_grad():
        embedding = encoder(0.1 * torch.randn(1, int(seconds * 16000)))
    assert embedding.shape == (1, 1, 8) and embedding.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_utterances_are_embedded_as_the_network_does(name: str) -> None:
    lobe, feats = make_lobe(name), torch.randn(2, 40, 80)
    with torch.no_grad():
        embedding = lobe(feats)
        assert torch.equal(embedding, lobe(feats))  # no noise
        expected = lobe.network(feats)
    assert torch.equal(embedding, expected.reshape(2, 1, 8))


def test_hidden_outputs_are_the_submodules() -> None:
    lobe, feats = make_lobe("ecapa_tdnn"), torch.randn(2, 40, 80)
    assert lobe.layers == {"blocks.1": 16, "mfa": 48}
    with torch.no_grad():
        _, (block, mfa) = lobe.forward_intermediates(feats)
        network: Any = lobe.network
        expected = network.blocks[1](network.blocks[0](feats.transpose(1, 2)))
    assert torch.equal(block, expected.transpose(1, 2)) and mfa.shape == (2, 40, 48)
    assert not any(module._forward_hooks for module in lobe.modules())


def test_noise_of_other_networks_stays() -> None:
    make_lobe("xvector")
    network, feats = make_network("xvector").eval(), torch.randn(2, 40, 80)
    assert not torch.equal(network(feats), network(feats))


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_is_near_float32(name: str) -> None:
    lobe, feats = make_lobe(name), torch.randn(3, 200, 80)
    lengths = torch.tensor([1.0, 0.7, 0.4])
    with torch.no_grad():
        expected = lobe(feats, lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = lobe(feats, lengths)
    assert torch.cosine_similarity(found.float(), expected, dim=-1).min() > 0.99


@pytest.mark.parametrize("name", NETWORKS)
def test_training_step_reaches_every_weight(name: str) -> None:
    lobe = make_lobe(name).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding, _ = lobe.forward_intermediates(torch.randn(4, 50, 80))
    # The last batch norm hides a plain sum.
    (embedding.float() * torch.randn(4, 1, 8)).sum().backward()
    for key, parameter in lobe.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


def test_what_does_not_fit_is_refused() -> None:
    network = make_network("ecapa_tdnn")
    for arguments, words in (
        ({"input_size": 40}, "input_size=40"),
        ({"input_size": 80, "min_frames": 4}, "min_frames=4"),
        ({"input_size": 80, "layers": ["blocks.7"]}, "'blocks.7', which ECAPA_TDNN lacks"),
        ({"input_size": 80, "layers": ["fc"]}, r"'fc', which gives \(1, 8, 1\)"),
    ):
        with pytest.raises(ValueError, match=words):
            ExactLength(network, **arguments)
    with pytest.raises(ValueError, match=r"\[20, 40\] frames"):
        make_lobe("resnet").train()(torch.randn(2, 40, 80), torch.tensor([0.5, 1.0]))


def test_trains_teaches_and_exports(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tmp_path / "exp"
    arguments = ["hparams/ecapa_tdnn.yaml", *COMMON, "--channels", "[16, 16, 16, 16, 48]"]
    arguments += ["--batch_size", "12", "--number_of_epochs", "1", "--corpus_dir", str(corpus)]
    result = run("train_teacher.py", *arguments, "--output_folder", experiment)
    assert result.returncode == 0, result.stderr

    encoder = load_encoder(experiment)
    wavs = 0.1 * torch.randn(2, 12345)
    teacher = FrozenTeacher(encoder).train()
    output = teacher(wavs)
    assert teacher.embedding_size == 16 and output.embedding.shape == (2, 16)
    assert {name: x.shape[2] for name, x in output.hidden.items()} == teacher.layers
    assert list(teacher.layers) == list(ECAPA_LAYERS)

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", ["export.py", str(experiment)])
    export.main()
    folder = shutil.move(experiment / "export", tmp_path / "moved")
    model = EncoderClassifier.from_hparams(source=str(folder), savedir=str(folder))
    together = model.encode_batch(wavs, torch.tensor([1.0, 8000 / 12345]))
    torch.testing.assert_close(together[0, 0], output.embedding[0], atol=1e-5, rtol=0)
    alone = model.encode_batch(wavs[1:, :8000])
    torch.testing.assert_close(together[1], alone[0], atol=1e-5, rtol=0)
