"""The GE2E network: windows, their mean, and the level of the speech."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from speechbrain_ext.lobes.ge2e import GE2E, MelPower
from tests.lobes.ssl_systems import make_waveforms


def make_lobe() -> GE2E:
    torch.manual_seed(0)
    return GE2E(40, 8, hidden_size=12, num_layers=2).eval()


@pytest.mark.parametrize(
    ("frames", "windows"),
    # The second window begins at frame 77, and is heard where 122 frames of it hold speech.
    [(1, 1), (160, 1), (198, 1), (199, 2), (237, 2), (275, 2), (276, 3)],
)
def test_windows_are_averaged(frames: int, windows: int) -> None:
    lobe, feats = make_lobe(), torch.rand(2, frames, 40)
    parts = []
    for start in range(0, 77 * windows, 77):
        piece = feats[:, start : start + 160]
        states, _ = lobe.lstm(F.pad(piece, (0, 0, 0, 160 - piece.shape[1])))
        parts.append(F.normalize(F.relu(lobe.linear(states[:, -1])), dim=1))
    expected = torch.stack(parts).mean(dim=0)
    with torch.no_grad():
        torch.testing.assert_close(lobe(feats).squeeze(1), expected, atol=1e-6, rtol=1e-5)


def test_names_and_sizes_are_the_published() -> None:
    shapes = {name: list(value.shape) for name, value in GE2E().state_dict().items()}
    assert shapes["lstm.weight_ih_l0"] == [1024, 40] and shapes["lstm.bias_hh_l2"] == [1024]
    assert shapes["linear.weight"] == [256, 256] and len(shapes) == 14


def test_quiet_speech_is_raised_and_loud_speech_left() -> None:
    torch.manual_seed(0)
    front_end, wav = MelPower(), make_waveforms(1, 16000)
    wav = wav / wav.square().mean().sqrt()  # 0 dB
    loud, quiet = front_end(0.1 * wav), front_end(1e-3 * wav)
    # -20 dB stays; -60 dB becomes -30 dB, a tenth of the energy of -20 dB.
    torch.testing.assert_close(quiet, 0.1 * loud, atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(front_end(0.2 * wav), 4 * loud, atol=1e-7, rtol=1e-4)
    assert not front_end(torch.zeros(1, 16000)).any()


@pytest.mark.parametrize(("samples", "frames"), [(1, 2), (120, 2), (121, 3), (16000, 102)])
def test_frames_are_all_that_hold_a_sample(samples: int, frames: int) -> None:
    front_end = MelPower()
    wav = torch.zeros(1, samples)
    wav[0, -1] = 1.0
    feats = front_end(wav)
    assert feats.shape[1] == frames == front_end.num_frames(torch.tensor(samples))
