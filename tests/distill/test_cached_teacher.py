"""A cache is made once, gives what the teacher gives, and is refused when it is stale."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from speechbrain_ext.distill.cached_teacher import CachedTeacher, cached_embeddings
from speechbrain_ext.inference.extraction import embed_batch, utterance_loader
from speechbrain_ext.interfaces import FrontEnd
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.nnet.normalization import UtteranceNorm
from tests.refusals import refused

SECONDS = {"ann/1": 0.5, "ann/b@home": 0.8, "bob/1": 0.65}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for name, seconds in SECONDS.items():
        path = tmp_path / f"{name.replace('/', '_')}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(int(seconds * 16000)), 16000)
        row = {"ID": name, "duration": seconds, "wav": path, "spk_id": name[:3]}
        rows.append({**row, "start": 0, "stop": int(seconds * 16000)})
    with open(tmp_path / "train.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path / "train.csv"


def make_encoder() -> SpeakerEncoder:
    torch.manual_seed(0)
    network = LSTMAutoencoder(conv_channels=16, latent_size=8, lstm_size=8, lin_neurons=12)
    return SpeakerEncoder(LogMel(), UtteranceNorm(), network).eval()


def test_gives_the_embeddings_of_whole_utterances_without_gradient(manifest: Path) -> None:
    encoder = make_encoder()
    expected: dict[str, np.ndarray] = {}
    with open(manifest, newline="") as file:
        for batch in utterance_loader(csv.DictReader(file), max_batch_seconds=0):
            expected.update(embed_batch(encoder, batch))
    teacher = CachedTeacher(encoder, manifest.parent / "cache.npz").train()
    teacher.prepare(manifest)
    ids = ["bob/1", "ann/1", "ann/b@home", "bob/1"]
    output = teacher(torch.randn(4, 4000), ids=ids)
    assert output.hidden == {} == teacher.layers and not output.embedding.requires_grad
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert output.embedding.dtype == torch.float32
    assert np.abs(output.embedding.numpy() - np.stack([expected[i] for i in ids])).max() < 1e-5
    assert teacher.embedding_size == 12
    assert teacher.num_parameters == sum(p.numel() for p in encoder.embedding_model.parameters())


def test_the_network_runs_for_the_first_training_only(manifest: Path) -> None:
    path, calls = manifest.parent / "deep" / "cache.npz", []
    outputs = []
    for _ in range(2):
        encoder = make_encoder()
        encoder.embedding_model.register_forward_hook(lambda *_: calls.append(1))
        teacher = CachedTeacher(encoder, path)
        teacher.prepare(manifest)
        outputs.append(teacher(torch.zeros(3, 1), ids=list(SECONDS)).embedding)
    assert len(calls) == 1
    assert torch.equal(*outputs)
    assert [file.name for file in path.parent.iterdir()] == ["cache.npz"]


def test_a_training_that_ends_while_the_cache_is_made_leaves_none(manifest: Path) -> None:
    encoder = make_encoder()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    encoder.embedding_model.register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        cached_embeddings(encoder, manifest, manifest.parent / "cache.npz")
    assert not list(manifest.parent.glob("*.npz"))


class Louder(FrontEnd):
    """A front end with the settings and weights of another, and other features."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, wavs: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return self.inner(10 * wavs, lengths)


class NoNorm(nn.Module):
    def forward(self, feats: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return feats


class TestStale:
    @pytest.fixture
    def cache(self, manifest: Path) -> Path:
        cached_embeddings(make_encoder(), manifest, manifest.parent / "cache.npz")
        return manifest.parent / "cache.npz"

    def message(
        self,
        encoder: SpeakerEncoder,
        manifest: Path,
        cache: Path,
        code: str = "other-weights",
    ) -> str:
        before = cache.read_bytes()
        with refused(code, cache) as caught:
            cached_embeddings(encoder, manifest, cache)
        assert cache.read_bytes() == before
        return str(caught.value)

    def test_by_a_weight(self, manifest: Path, cache: Path) -> None:
        encoder = make_encoder()
        with torch.no_grad():
            next(encoder.embedding_model.parameters()).view(-1)[0] += 1e-6
        message = self.message(encoder, manifest, cache)
        assert "weights" in message and "features" not in message and "train.csv" not in message

    def test_by_a_statistic(self, manifest: Path, cache: Path) -> None:
        encoder = make_encoder()
        dict(encoder.embedding_model.named_buffers())["fc_norm.running_mean"][0] += 1e-6
        assert "weights" in self.message(encoder, manifest, cache)

    def test_by_the_manifest(self, manifest: Path, cache: Path) -> None:
        manifest.write_text(manifest.read_text().replace("0.65", "0.64"))
        message = self.message(make_encoder(), manifest, cache)
        assert f"another {manifest}" in message and "weights" not in message

    @pytest.mark.parametrize("change", ["bands", "level", "normalisation"])
    def test_by_the_front_end(self, manifest: Path, cache: Path, change: str) -> None:
        encoder = make_encoder()
        if change == "bands":
            encoder.compute_features = LogMel(n_mels=40)
        elif change == "level":
            encoder.compute_features = Louder(LogMel())
        else:
            encoder.mean_var_norm = NoNorm()
        message = self.message(encoder, manifest, cache)
        assert "features" in message and "weights" not in message

    def test_all_at_once(self, manifest: Path, cache: Path) -> None:
        encoder = make_encoder()
        nn.init.zeros_(next(encoder.embedding_model.parameters()))
        manifest.write_text(manifest.read_text().replace("0.65", "0.64"))
        encoder.compute_features = Louder(LogMel())
        message = self.message(encoder, manifest, cache)
        assert all(word in message for word in ("weights", "train.csv", "features"))

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"text"])
    def test_damaged(self, manifest: Path, cache: Path, content: bytes) -> None:
        cache.write_bytes(content)
        self.message(make_encoder(), manifest, cache, code="damaged-file")

    def test_another_kind_of_file(self, manifest: Path, cache: Path) -> None:
        np.savez(cache, ids=np.array(["a"]), embeddings=np.zeros((1, 2), np.float32))
        message = self.message(make_encoder(), manifest, cache, code="damaged-file")
        assert "weights_sha256" in message


def test_an_utterance_that_is_not_there_is_named(manifest: Path) -> None:
    teacher = CachedTeacher(make_encoder(), manifest.parent / "cache.npz")
    teacher.prepare(manifest)
    with pytest.raises(ValueError, match=r"no embedding of ann/1@sp1\.1: .*set speeds to \[1\.0\]"):
        teacher(torch.zeros(2, 10), ids=["ann/1", "ann/1@sp1.1"])
    with pytest.raises(ValueError, match="ids is None"):
        teacher(torch.zeros(2, 10))
