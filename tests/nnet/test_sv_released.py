"""The layout of SV-Mixer's released code against its layers written out, and its size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.measure.speed import count_macs
from speechbrain_ext.nnet.masking import frame_mask
from speechbrain_ext.nnet.mixing import GroupedMLP
from speechbrain_ext.nnet.residual import ResidualBlock
from speechbrain_ext.nnet.sv_released import MultiScaleGroupMixing, ParallelLocalGlobalMixing
from tests.lobes.published_networks import randomise_norms
from tests.nnet.mixer_contract import (
    check_bf16,
    check_gradients,
    check_onnx,
    check_padding,
    padded,
)

MIXERS: dict[str, Callable[..., Mixer]] = {
    "time": partial(ParallelLocalGlobalMixing, num_tokens=20),
    "channels": partial(MultiScaleGroupMixing, groups=4),
}


def released(channels: int = 16) -> nn.Module:
    """A small block with windows of 20 frames."""
    return randomise_norms(ResidualBlock(channels, list(MIXERS.values())))


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """(B, C, T) by PyTorch's convolution of one dimension."""
    size, groups = conv.kernel_size[1], conv.groups
    return F.conv1d(x, conv.weight.squeeze(2), conv.bias, padding=size // 2, groups=groups)


def pointwise(mlp: GroupedMLP, x: Tensor) -> Tensor:
    """(B, C, T) by a grouped MLP written as convolutions over one frame."""
    groups = mlp.fc1.groups
    hidden = F.gelu(F.conv1d(x, mlp.fc1.weight.unsqueeze(2), mlp.fc1.bias, groups=groups))
    return F.conv1d(hidden, mlp.fc2.weight.unsqueeze(2), mlp.fc2.bias, groups=groups)


def test_convolutions_and_token_mlp_read_the_same_input() -> None:
    mixer, x = ParallelLocalGlobalMixing(16, num_tokens=20).eval(), torch.randn(3, 16, 20)
    sizes = [(conv.kernel_size, conv.groups) for conv in (mixer.conv1, mixer.conv2)]
    assert sizes == [((1, 7), 16), ((1, 3), 16)] and mixer.token_mlp.fc1.out_features == 80
    local = convolved(mixer.conv2, F.gelu(convolved(mixer.conv1, x)))
    expected = local + mixer.token_mlp.fc2(F.gelu(mixer.token_mlp.fc1(x)))
    found = mixer(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_rates_then_groups_then_all_channels() -> None:
    mixer, x = MultiScaleGroupMixing(16, groups=4).eval(), torch.randn(3, 16, 20)
    assert (mixer.conv.kernel_size, mixer.conv.groups) == ((1, 3), 4)
    slow = pointwise(mixer.multi_scale.half_rate, F.avg_pool1d(x, 2))
    slow = F.interpolate(slow, size=20, mode="linear", align_corners=False)
    mixed = convolved(mixer.conv, pointwise(mixer.multi_scale.full_rate, x) + slow)
    found = mixer(x.transpose(1, 2))
    torch.testing.assert_close(found, mixer.fc(F.gelu(mixed).transpose(1, 2)), atol=1e-6, rtol=1e-5)


def test_size_of_the_published_block() -> None:
    block = ResidualBlock(1024, [ParallelLocalGlobalMixing, MultiScaleGroupMixing]).eval()
    assert sum(p.numel() for p in block.parameters()) == 3_745_969
    macs = count_macs(block, torch.randn(1, 149, 1024))
    time = 149 * 1024 * (7 + 3) + 2 * 149 * 596 * 1024  # convolutions, token MLP
    rates = (149 + 75) * 8 * 1024 * 1024 // 8  # at both rates, half of 149 rounded up
    channels = 149 * (3 * 1024 * 1024 // 8 + 1024 * 1024)
    assert macs == time + rates + channels == pytest.approx(0.63e9, rel=0.01)


@pytest.mark.parametrize("name", MIXERS)
def test_contract(name: str) -> None:
    check_padding(MIXERS[name](16), 16, times=(1, 2, 5, 19, 20, 21, 40, 61))
    check_gradients(MIXERS[name](16), 16)
    check_bf16(MIXERS[name](16), 16)


def test_every_length_from_one_frame_on() -> None:
    block = released()
    mask = frame_mask(torch.arange(1, 48) / 47, 47)
    x = torch.randn(47, 47, 16)
    together = block(x, mask)
    for frames in range(1, 48):
        alone = block(x[frames - 1 : frames, :frames])[0]
        torch.testing.assert_close(together[frames - 1, :frames], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx(dynamo: bool, tmp_path: Path) -> None:
    check_onnx(released(), 16, tmp_path, dynamo)


@pytest.mark.parametrize("name", MIXERS)
def test_dropout_of_the_output_in_training_only(name: str) -> None:
    mixer, (x, mask) = MIXERS[name](16, dropout=0.5), padded(2, 20, 16)
    found = mixer(x, mask)
    expected = mixer.eval()(x, mask)
    assert torch.equal(expected, mixer(x, mask))
    kept = found != 0
    assert 0.3 < kept.float().mean() < 0.7
    torch.testing.assert_close(found[kept], 2 * expected[kept])


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="groups=5"):
        MultiScaleGroupMixing(16, groups=5)
    with pytest.raises(ValueError, match="num_tokens=0"):
        ParallelLocalGlobalMixing(16, num_tokens=0)
