"""The runtime embeds as PyTorch does: waveforms and features, of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from torch import Tensor, nn

from speechbrain_ext.audio import read_audio
from speechbrain_ext.export.graphs import (
    engine_facts,
    join_graphs,
    save_graph,
    write_embedding_graph,
    write_front_end_graph,
)
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.foreign import OnnxModel
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
from speechbrain_ext.runtime import load_model
from speechbrain_ext.runtime.engine import Engine
from speechbrain_ext.runtime.features import filter_bank
from speechbrain_ext.runtime.resampling import resample
from speechbrain_ext.systems.experiment import load_encoder
from tests.recipe.experiments import make_experiment
from tests.refusals import refused

onnx = pytest.importorskip("onnx")
kaldi = pytest.importorskip("kaldi_native_fbank")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SpeakerEncoder:
    return load_encoder(make_experiment(tmp_path_factory.mktemp("exp") / "v5", "v5_quarter"))


@pytest.fixture(scope="module")
def graphs(encoder: SpeakerEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``waveform.onnx`` and ``speaker-embedding.onnx`` with its metadata."""
    folder = tmp_path_factory.mktemp("graphs")
    front_end, back_end = folder / "front_end.onnx", folder / "speaker-embedding.onnx"
    write_front_end_graph(encoder, front_end)
    write_embedding_graph(encoder, back_end)
    join_graphs(front_end, back_end, folder / "waveform.onnx")
    save_graph(onnx.load(back_end), back_end, engine_facts(encoder, "tiny"))
    return folder


def embed(encoder: nn.Module, wav: Tensor) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = encoder(wav[None]).flatten().numpy()
    return found


@pytest.mark.parametrize("samples", [1600, 8000, 52801, 320000])
@pytest.mark.parametrize("name", ["waveform", "speaker-embedding"])
def test_embeddings_are_those_of_pytorch(
    encoder: SpeakerEncoder, graphs: Path, name: str, samples: int
) -> None:
    wav = 0.1 * torch.randn(samples)
    found = load_model(graphs / f"{name}.onnx").embed(wav.numpy())
    np.testing.assert_allclose(found, embed(encoder, wav), atol=2e-4)


@pytest.mark.parametrize("rate", [2000, 8000, 11025, 16100, 22050, 44100, 48000, 768000])
@pytest.mark.parametrize("size", [7, 999, 48000])
def test_a_signal_is_resampled_as_torchaudio_does(rate: int, size: int) -> None:
    """In blocks of any size, to its last sample."""
    wav = torch.randn(min(rate, 300 * size) + 17)
    expected = torchaudio.transforms.Resample(rate, 16000)(wav).numpy()
    blocks = (block.numpy() for block in wav.split(size))
    found = np.concatenate(list(resample(blocks, rate, 16000)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000])
@pytest.mark.parametrize("name", ["waveform", "speaker-embedding"])
def test_files_of_other_rates_are_those_of_pytorch(
    encoder: SpeakerEncoder, graphs: Path, tmp_path: Path, name: str, rate: int
) -> None:
    """Bands above the file's own are all but empty, and what a filter leaves there counts."""
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=(2 * rate, 2)), rate)
    found = load_model(graphs / f"{name}.onnx").embed(path)
    np.testing.assert_allclose(found, embed(encoder, read_audio(path)), atol=2e-4)


def test_features_of_ones_own(encoder: SpeakerEncoder, graphs: Path) -> None:
    wav = 0.1 * torch.randn(16000)
    feats = encoder.compute_features(wav[None])[0].numpy()
    found = load_model(graphs / "speaker-embedding.onnx").embed_features(feats)
    np.testing.assert_allclose(found, embed(encoder, wav), atol=1e-4)
    with refused("wrong-input", "waveform.onnx"):
        load_model(graphs / "waveform.onnx").embed_features(feats)


@pytest.mark.parametrize(("window", "scale"), [("hamming", 32768.0), ("povey", 1.0)])
@pytest.mark.parametrize("samples", [300, 400, 16000, 20001])
def test_the_filter_bank_is_the_recipes(window: str, scale: float, samples: int) -> None:
    wav = 0.1 * torch.randn(samples)
    expected = KaldiFbank(window=window, scale=scale)(wav[None])[0]
    expected = expected - expected.mean(dim=0)
    found = filter_bank(16000, 80, window, scale)(wav.numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-3)


def test_a_published_model_is_read_as_the_recipe_reads_it(graphs: Path, tmp_path: Path) -> None:
    """One of 3D-Speaker, in numbers of 16 bits: by its metadata."""
    path = tmp_path / "published.onnx"
    facts = {"framework": "3d-speaker", "sample_rate": "16000", "normalize_samples": "0"}
    save_graph(onnx.load(graphs / "speaker-embedding.onnx"), path, facts)
    wav = 0.1 * torch.randn(24000)
    with torch.no_grad():
        expected = OnnxModel(path)(wav[None]).flatten().numpy()
    np.testing.assert_allclose(load_model(path).embed(wav.numpy()), expected, atol=2e-4)


def test_an_exported_file_says_its_window(
    encoder: SpeakerEncoder, graphs: Path, tmp_path: Path
) -> None:
    """Without it a file of WeSpeaker's kind is read with a Hamming window."""
    wav = 0.1 * torch.randn(24000)
    exported = graphs / "speaker-embedding.onnx"
    for read in (load_model(exported).embed(wav.numpy()), embed(OnnxModel(exported), wav)):
        np.testing.assert_allclose(read, embed(encoder, wav), atol=2e-4)
    hamming = SpeakerEncoder(
        KaldiFbank(window="hamming", scale=32768.0), encoder.mean_var_norm, encoder.embedding_model
    )
    path = tmp_path / "hamming.onnx"
    save_graph(onnx.load(exported), path, engine_facts(hamming, "tiny"))
    kept = OnnxModel(path)
    again = OnnxModel(**kept.build_arguments)
    again.load_state_dict(kept.state_dict())
    for read in (load_model(path).embed(wav.numpy()), embed(kept, wav), embed(again, wav)):
        np.testing.assert_allclose(read, embed(hamming, wav), atol=2e-4)


@pytest.mark.parametrize(
    "options",
    [{"high_freq": -400.0}, {"low_freq": 0.0}, {"snip_edges": False}, {"preemphasis": 0.0}],
)
def test_features_that_nobody_computes_are_refused(
    encoder: SpeakerEncoder, graphs: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    other = SpeakerEncoder(KaldiFbank(**options), encoder.mean_var_norm, encoder.embedding_model)
    path = tmp_path / "other.onnx"
    facts = engine_facts(other, "tiny")
    save_graph(onnx.load(graphs / "speaker-embedding.onnx"), path, facts)
    for read in (load_model, OnnxModel):
        with refused("bad-model", path, "in its metadata"):
            read(path)


def test_a_file_that_does_not_say_what_it_reads(graphs: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    for facts, said in (
        ({"framework": "nemo"}, "nemo"),
        ({"sample_rate": "1"}, "sample_rate 1"),
        ({"window_type": "round"}, "window_type round"),  # kaldi-native-fbank would end the process
        ({"feature_normalize_type": "per_feature"}, "feature_normalize_type per_feature"),
    ):
        save_graph(onnx.load(graphs / "speaker-embedding.onnx"), path, facts)
        with refused("bad-model", path, said):
            load_model(path)


def test_without_the_package_of_features(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kaldi_native_fbank", None)
    with refused("missing-package", "pip install kaldi-native-fbank"):
        Engine((graphs / "speaker-embedding.onnx").read_bytes(), "x.onnx")
