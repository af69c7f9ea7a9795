"""What every lobe promises: see "Contracts" in the project's documents."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer
from tests.lobes.systems import LOBES, make_encoder, make_lobe

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("lobe", "count"),
    [
        (MLPMixer(), 2_664_576),
        (MLPMixer(channels=256, num_blocks=8, expansion=4), 7_844_864),
        (LSTMAutoencoder(), 3_873_745),
    ],
    ids=["V2", "V2_large", "teacher"],
)
def test_parameters(lobe: nn.Module, count: int) -> None:
    assert sum(parameter.numel() for parameter in lobe.parameters()) == count


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="groups=5"):
        MLPMixer(groups=5)


@pytest.mark.parametrize("name", LOBES)
def test_padding_changes_nothing(name: str) -> None:
    lobe = make_lobe(name)
    frames = torch.tensor([150, 31, 1, 149])
    feats = torch.randn(4, 150, 80)
    for index, count in enumerate(frames):
        feats[index, count:] = 1e3
    with torch.no_grad():
        together = lobe(feats, frames / 150)
        for index, count in enumerate(frames):
            alone = lobe(feats[index : index + 1, :count])
            torch.testing.assert_close(together[index], alone[0], atol=1e-4, rtol=0)
        assert torch.allclose(lobe(feats[:1]), lobe(feats[:1], torch.ones(1)), atol=1e-5)


@pytest.mark.parametrize("name", LOBES)
def test_padding_of_waveforms_changes_nothing(name: str) -> None:
    encoder = make_encoder(name)
    # On both sides of whole hops of 160 samples, and down to the shortest.
    samples = torch.tensor([48123, 48000, 47999, 32001, 31999, 4800, 8160, 8159, 8161])
    wavs = 0.1 * torch.randn(len(samples), 48123)
    for index, count in enumerate(samples):
        wavs[index, count:] = 0.7
    with torch.no_grad():
        together = encoder(wavs, samples / 48123)
        for index, count in enumerate(samples):
            alone = encoder(wavs[index : index + 1, :count])
            torch.testing.assert_close(together[index], alone[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", LOBES)
@pytest.mark.parametrize("seconds", [0.3, 300.0])
def test_any_length(name: str, seconds: float) -> None:
    wavs = 0.1 * torch.randn(1, int(seconds * 16000))
    with torch.no_grad():
        embedding = make_encoder(name)(wavs)
    assert embedding.shape == (1, 1, 8) and embedding.isfinite().all()


MEMORY = """
import resource, sys, torch
from tests.lobes.systems import make_encoder
encoder = make_encoder(sys.argv[1])
with torch.inference_mode():
    for seconds in (15, 60, 105):
        encoder(0.1 * torch.randn(1, seconds * 16000))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("name", LOBES)
def test_memory_is_linear_in_time(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, name],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, third = (int(line) for line in result.stdout.split())
    # Kilobytes. Linear: the next 45 s cost what those before did; quadratic, they cost twice that.
    assert third - second < 1.5 * (second - first) + 10_000


@pytest.mark.parametrize("name", LOBES)
@pytest.mark.parametrize("padded", [False, True])
def test_intermediates_come_with_the_same_embedding(name: str, padded: bool) -> None:
    lobe, feats = make_lobe(name), torch.randn(2, 40, 80)
    lengths = torch.tensor([1.0, 0.5]) if padded else None
    with torch.no_grad():
        embedding, hidden = lobe.forward_intermediates(feats, lengths)
        assert torch.equal(embedding, lobe(feats, lengths))
    assert len(hidden) >= 2 and all(layer.shape[:2] == (2, 40) for layer in hidden)


@pytest.mark.parametrize("name", LOBES)
def test_bfloat16_is_near_float32(name: str) -> None:
    encoder, wavs = make_encoder(name), 0.1 * torch.randn(3, 32000)
    lengths = torch.tensor([1.0, 0.7, 0.4])
    with torch.no_grad():
        expected = encoder(wavs, lengths)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = encoder(wavs, lengths)
    assert found.isfinite().all()
    similarity = torch.cosine_similarity(found.float(), expected, dim=-1)
    assert similarity.min() > 0.99


@pytest.mark.parametrize("name", LOBES)
def test_training_step_reaches_every_weight(name: str) -> None:
    lobe = make_lobe(name).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = lobe(torch.randn(4, 50, 80), torch.tensor([1.0, 0.5, 0.9, 0.3]))
    # The last batch norm hides a plain sum.
    (embedding.float() * torch.randn(4, 1, 8)).sum().backward()
    for key, parameter in lobe.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key


def test_decoder_rebuilds_within_the_utterance() -> None:
    lobe = LSTMAutoencoder(conv_channels=16, latent_size=12, lstm_size=10, train_decoder=True)
    lobe.eval()
    feats, lengths = torch.randn(2, 40, 80), torch.tensor([1.0, 0.5])
    _, hidden = lobe.forward_intermediates(feats, lengths)
    rebuilt = lobe.decode(hidden[0], lengths)
    alone = lobe.decode(lobe.forward_intermediates(feats[1:, :20])[1][0])
    assert rebuilt.shape == feats.shape
    torch.testing.assert_close(rebuilt[1, :20], alone[0], atol=1e-5, rtol=0)
    assert all(parameter.requires_grad for parameter in lobe.decoder.parameters())


