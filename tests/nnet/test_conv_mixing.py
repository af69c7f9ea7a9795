"""ConvMixer's separable convolution against its definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from speechbrain_ext.nnet.conv_mixing import SeparableConv
from tests.lobes.published_networks import randomise_norms
from tests.nnet.mixer_contract import check_bf16, check_gradients, check_onnx, check_padding


def test_depthwise_then_pointwise_in_groups() -> None:
    mixer = SeparableConv(8, kernel_size=5, groups=4)
    randomise_norms(mixer)
    norm, weight = mixer.norm, mixer.pointwise.weight[..., 0]
    assert norm.running_mean is not None and norm.running_var is not None
    x = torch.randn(2, 12, 8)
    windows = F.pad(x, (0, 0, 2, 2)).unfold(1, 5, 1)
    filtered = torch.einsum("btck,ck->btc", windows, mixer.depthwise.weight[:, 0])
    groups = filtered.unflatten(-1, (4, 2))
    mixed = torch.einsum("btgi,goi->btgo", groups, weight.unflatten(0, (4, 2)))
    normalised = (mixed.flatten(2) - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    expected = F.silu(normalised * norm.weight + norm.bias)
    torch.testing.assert_close(mixer(x), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 3, 9])
def test_a_frame_sees_half_a_kernel_to_either_side(kernel_size: int) -> None:
    mixer, x = SeparableConv(8, kernel_size).eval(), torch.randn(1, 30, 8)
    changed = x.clone()
    changed[0, 15] += 1.0
    differs = (mixer(x) != mixer(changed))[0].any(dim=-1)
    half = kernel_size // 2
    assert differs.nonzero().flatten().tolist() == list(range(15 - half, 16 + half))


@pytest.mark.parametrize("groups", [1, 4])
def test_mixer(groups: int) -> None:
    check_padding(SeparableConv(8, groups=groups), 8)
    check_gradients(SeparableConv(8, groups=groups), 8)
    check_bf16(SeparableConv(8, groups=groups), 8)


def test_onnx(tmp_path: Path) -> None:
    check_onnx(SeparableConv(8), 8, tmp_path)


def test_dropout_in_training_only() -> None:
    mixer, x = SeparableConv(8, dropout=0.5), torch.randn(1, 30, 8)
    assert not torch.equal(mixer(x), mixer(x))
    mixer.eval()
    assert torch.equal(mixer(x), mixer(x))


@pytest.mark.parametrize("sizes", [{"kernel_size": 4}, {"kernel_size": -1}, {"groups": 3}])
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, int]) -> None:
    name, value = next(iter(sizes.items()))
    with pytest.raises(ValueError, match=f"{name}={value} must"):
        SeparableConv(8, **sizes)
