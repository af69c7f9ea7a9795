"""Kaldi's filter bank: torchaudio's function of one utterance is the oracle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchaudio.compliance import kaldi

from speechbrain_ext.lobes import kaldi_fbank
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
from speechbrain_ext.nnet import pieces
from speechbrain_ext.nnet.spectrum import power_by_convolution
from tests.lobes.ssl_systems import make_waveforms

SETTINGS: list[dict[str, Any]] = [
    {},
    {"window": "hamming", "scale": 32768.0},
    {"high_freq": -400.0, "snip_edges": False},
    {"window": "hanning", "n_mels": 40, "low_freq": 64.0, "high_freq": 7600.0},
    {"window": "rectangular", "preemphasis": 0.0, "snip_edges": False},
]
# The last one is of a single frame; the ones before it stand on both sides of a hop.
SAMPLES = [20123, 16000, 15999, 16080, 16079, 8160, 4800, 400]


def oracle(wav: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    names = {
        "n_mels": "num_mel_bins",
        "window": "window_type",
        "preemphasis": "preemphasis_coefficient",
    }
    given = {names.get(key, key): value for key, value in arguments.items() if key != "scale"}
    return kaldi.fbank(wav[None] * arguments.get("scale", 1.0), **{"num_mel_bins": 80, **given})


@pytest.mark.parametrize("arguments", SETTINGS, ids=[" ".join(map(str, s)) for s in SETTINGS])
@pytest.mark.parametrize("piece", [pieces.PIECE, 8 * 400 * 7])
def test_each_utterance_has_kaldis_features(
    arguments: dict[str, Any], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a padded batch, whatever the padding holds, at once and in pieces of a few frames."""
    monkeypatch.setattr(pieces, "PIECE", piece)
    torch.manual_seed(0)
    samples = torch.tensor(SAMPLES)
    wavs = make_waveforms(len(SAMPLES), SAMPLES[0]).clamp(-1, 1)
    front_end = KaldiFbank(**arguments)
    feats = front_end(wavs, samples / SAMPLES[0])
    frames = front_end.num_frames(samples)
    assert feats.shape[1] == frames.max()
    for found, wav, count, own in zip(feats, wavs, samples, frames, strict=True):
        expected = oracle(wav[:count], arguments)
        assert len(expected) == own
        torch.testing.assert_close(found[:own], expected, atol=1e-4, rtol=1e-5)


def test_an_utterance_of_less_than_a_frame_has_one() -> None:
    front_end, wavs = KaldiFbank(), 0.1 * torch.randn(2, 399)
    assert front_end(wavs).shape == (2, 1, 80)
    assert front_end.num_frames(torch.tensor([1, 399, 400, 559, 560])).tolist() == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("arguments", SETTINGS, ids=[" ".join(map(str, s)) for s in SETTINGS])
def test_one_convolution_gives_the_same(arguments: dict[str, Any]) -> None:
    """The form that an exported graph has."""
    torch.manual_seed(0)
    front_end, wavs = KaldiFbank(**arguments), make_waveforms(2, 8000)
    found = power_by_convolution(wavs, front_end.kernel, kaldi_fbank.HOP)
    expected = front_end._power(wavs)
    # Bands are sums of these; what is far below the loudest may drown in rounding.
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.max()), rtol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"window": "blackman"}, "window='blackman' is none of hamming"),
        ({"low_freq": 8000.0}, "low_freq=8000.0"),
        ({"high_freq": 9000.0}, "high_freq=9000.0"),
        ({"low_freq": 20.0, "high_freq": -8000.0}, "leave no bands"),
    ],
)
def test_settings_that_make_no_sense_are_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        KaldiFbank(**arguments)
