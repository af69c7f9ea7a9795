"""The channel mixing of MLP-Mixer against the same layers written plainly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from speechbrain_ext.nnet.channel_mlp import ChannelMLP
from tests.nnet.mixer_contract import check_bf16, check_gradients, check_onnx, check_padding


@pytest.mark.parametrize(("hidden_size", "expected"), [(None, 32), (12, 12)])
def test_two_dense_layers(hidden_size: int | None, expected: int) -> None:
    mixer = ChannelMLP(8, hidden_size)
    assert mixer.fc1.out_features == expected
    plain = nn.Sequential(mixer.fc1, nn.GELU(), mixer.fc2)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(mixer(x), plain(x))


def test_dropout_in_training_only() -> None:
    mixer, x = ChannelMLP(8, dropout=0.5), torch.randn(1, 30, 8)
    assert not torch.equal(mixer(x), mixer(x))
    mixer.eval()
    assert torch.equal(mixer(x), mixer(x))


def test_mixer() -> None:
    check_padding(ChannelMLP(8), 8)
    check_gradients(ChannelMLP(8), 8)
    check_bf16(ChannelMLP(8), 8)


def test_onnx(tmp_path: Path) -> None:
    check_onnx(ChannelMLP(8), 8, tmp_path)


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size=0"):
        ChannelMLP(8, 0)
