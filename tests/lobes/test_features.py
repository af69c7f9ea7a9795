"""The mel front end against torchaudio, one utterance at a time."""

from __future__ import annotations

import pytest
import torch
import torchaudio
from torch import Tensor

from speechbrain_ext.lobes.features import LogMel
from speechbrain_ext.nnet.normalization import UtteranceNorm
from tests.lobes.published_networks import PublishedFrontEnd


def torchaudio_log_mel(wavs: Tensor) -> Tensor:
    mel = torchaudio.transforms.MelSpectrogram(
        16000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        window_fn=torch.hamming_window,
        n_mels=80,
    )
    return torch.log(mel(wavs) + 1e-6).transpose(1, 2)


def test_two_seconds_are_201_frames() -> None:
    wavs = 0.1 * torch.randn(2, 32000)
    feats = LogMel()(wavs)
    assert feats.shape == (2, 201, 80)
    torch.testing.assert_close(feats, torchaudio_log_mel(wavs), atol=1e-4, rtol=0)


@pytest.mark.parametrize("samples", [257, 4800, 15999, 16000, 16001, 31999])
def test_each_utterance_of_a_padded_batch(samples: int) -> None:
    front_end = LogMel()
    wavs = 0.1 * torch.randn(2, 32000)
    wavs[1, samples:] = 0.5
    feats = front_end(wavs, torch.tensor([32000, samples]) / 32000)
    expected = torchaudio_log_mel(wavs[1:, :samples])[0]
    count = int(front_end.num_frames(torch.tensor(samples)))
    assert count == len(expected)
    torch.testing.assert_close(feats[1, :count], expected, atol=1e-3, rtol=0)


def test_no_gradient_and_float32_under_autocast() -> None:
    wavs = torch.randn(1, 4800, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        feats = LogMel()(wavs)
    assert feats.dtype == torch.float32 and not feats.requires_grad


def test_normalised_features_are_the_published_ones() -> None:
    wavs = 0.1 * torch.randn(2, 20000)
    expected = PublishedFrontEnd()(wavs).transpose(1, 2)
    torch.testing.assert_close(UtteranceNorm()(LogMel()(wavs)), expected, atol=1e-4, rtol=1e-4)
