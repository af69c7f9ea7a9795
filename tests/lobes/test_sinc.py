"""The learned front end against SpeechBrain's layer, one utterance at a time."""

from __future__ import annotations

import copy
import math
from typing import cast

import pytest
import torch
from speechbrain.nnet.CNN import SincConv
from torch.nn import functional as F

from speechbrain_ext.lobes.features import LogMel, Waveforms
from speechbrain_ext.lobes.sinc import SincFeatures
from tests.lobes.systems import make_encoder

STRIDES = [160, 16]


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("samples", [4800, 15999, 16000, 16001])
def test_frames_are_centred_means_of_magnitudes(stride: int, samples: int) -> None:
    features, wavs = SincFeatures(stride=stride), 0.1 * torch.randn(2, samples)
    every_sample = SincConv(80, 251, in_channels=1, stride=1, padding="valid")
    margin = 400
    with torch.no_grad():
        found = features(wavs)
        # Output t is centred on sample t - margin.
        magnitudes = every_sample(F.pad(wavs, (125 + margin, 125 + margin))).abs()
    offsets = torch.arange(0, 160, stride) - (160 - stride) // 2
    assert found.shape == (2, samples // 160 + 1, 80)
    for frame in range(found.shape[1]):
        expected = magnitudes[:, 160 * frame + offsets + margin].mean(dim=1)
        torch.testing.assert_close(found[:, frame].exp() - 1e-4, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("samples", [300, 4800, 15999, 16000, 16001])
def test_each_utterance_of_a_padded_batch(stride: int, samples: int) -> None:
    features, wavs = SincFeatures(stride=stride), 0.1 * torch.randn(2, 20000)
    wavs[1, samples:] = float("nan")
    with torch.no_grad():
        feats = features(wavs, torch.tensor([20000, samples]) / 20000)
        alone = features(wavs[1:, :samples])[0]
    count = int(features.num_frames(torch.tensor(samples)))
    assert count == len(alone)
    # Magnitudes, of which each is a sum of 251 products rounded to float32: where one nearly
    # vanishes, its logarithm makes much of the rounding.
    found, expected = feats[1, :count].exp(), alone.exp()
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_as_many_frames_as_the_mel_has() -> None:
    samples = torch.arange(4700, 5100)
    assert torch.equal(SincFeatures().num_frames(samples), LogMel().num_frames(samples))


def test_a_tone_is_loudest_in_its_band() -> None:
    features = SincFeatures(stride=16)
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(16000) / 16000)
    with torch.no_grad():
        band = int(features(tone[None])[0, 20:80].mean(dim=0).argmax())
    filters = features.filters
    low = 50 + filters.UNIT * filters.low_hz_[band].item()
    width = 50 + filters.UNIT * filters.band_hz_[band].item()
    assert low - 20 < 1000 < low + width + 20


def test_filters_learn_and_a_step_moves_them_audibly() -> None:
    encoder = make_encoder("sincnet").train()
    features = cast(SincFeatures, encoder.get_submodule("embedding_model.compute_features"))
    before = copy.deepcopy(features.filters.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = encoder(0.1 * torch.randn(4, 8000), torch.tensor([1.0, 0.6, 0.9, 0.4]))
    (embedding.float() * torch.randn(4, 1, 8)).sum().backward()
    torch.optim.Adam(features.parameters(), lr=1e-3).step()
    assert sorted(before) == ["band_hz_", "low_hz_"]
    for key, value in features.filters.state_dict().items():
        moved = features.filters.UNIT * (value - before[key]).abs()
        # Hz. All but a filter that ends at half the sample rate and is held there.
        assert (moved > 0.09).sum() >= 79, key


def test_float32_under_autocast() -> None:
    features, wavs = SincFeatures(), 0.1 * torch.randn(1, 4800)
    with torch.no_grad():
        expected = features(wavs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = features(wavs)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size=250"):
        SincFeatures(kernel_size=250)
    with pytest.raises(ValueError, match="stride=150"):
        SincFeatures(stride=150)


def test_waveforms_count_samples() -> None:
    samples = torch.tensor([1, 160, 16000])
    assert torch.equal(Waveforms().num_frames(samples), samples)
