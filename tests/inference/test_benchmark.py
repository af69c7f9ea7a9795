"""Operations are counted by hand here, by the counter there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from speechbrain_ext.inference.benchmark import count_macs, time_side_by_side
from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.lobes.mixer import MLPMixer

FRAMES = 201


def test_student() -> None:
    conv = 3 * 80 * 192
    block = 3 * 192 + 2 * 192 * 576 // 4 + 192 * 1152 + 576 * 192
    attention = 2 * 192 * 192
    expected = FRAMES * (conv + 6 * block + attention) + 384 * 512
    macs = count_macs(MLPMixer().eval(), torch.randn(1, FRAMES, 80))
    # The ID-Conv may run as a convolution, which is counted, or as sums, which are not.
    assert macs == pytest.approx(expected, rel=0.002)
    assert macs == pytest.approx(0.49e9, rel=0.01)


def test_teacher() -> None:
    convs = 3 * (80 * 256 + 256 * 256 + 256 * 128)
    lstm = 2 * 4 * 256 * (128 + 256) + 2 * 4 * 256 * (512 + 256)
    attention = 512 * 512 + 512
    expected = FRAMES * (convs + lstm + attention) + 1024 * 512
    assert count_macs(LSTMAutoencoder().eval(), torch.randn(1, FRAMES, 80)) == expected


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm_is_counted_once(bidirectional: bool) -> None:
    lstm = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=bidirectional)
    directions = 2 if bidirectional else 1
    weights = directions * 4 * 5 * ((6 + 5) + (5 * directions + 5))
    assert count_macs(lstm, torch.randn(3, 7, 6)) == 21 * weights


def test_rounds_are_taken_in_turns() -> None:
    calls: list[str] = []
    functions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = time_side_by_side(functions, 3, torch.device("cpu"))
    assert calls == ["a", "b"] * 5  # two rounds to warm up
    assert [len(times) for times in seconds.values()] == [3, 3]
