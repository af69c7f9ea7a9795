"""The mixing layers against plain torch layers with the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from speechbrain_ext.nnet.mixing import ChannelMixing, GroupedLinear, IDConv, PointwiseTokenMixing


def frames(channels: int = 12, time: int = 31) -> torch.Tensor:
    return torch.randn(3, time, channels, generator=torch.Generator().manual_seed(0))


def move_norm(norm: nn.BatchNorm1d) -> None:
    """Statistics and affine parameters as after some training."""
    norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-1, 1)


def test_grouped_linear_is_a_grouped_convolution_of_width_1() -> None:
    layer = GroupedLinear(12, 24, groups=4)
    conv = nn.Conv1d(12, 24, 1, groups=4)
    conv.load_state_dict({"weight": layer.weight.detach()[..., None], "bias": layer.bias.detach()})
    expected = conv(frames().transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(layer(frames()), expected, atol=1e-5, rtol=0)


def test_grouped_linear_refuses_groups_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="groups=5"):
        GroupedLinear(12, 24, groups=5)


@pytest.mark.parametrize("training", [True, False])
def test_id_conv_is_identity_plus_norm_of_depthwise_convolution(training: bool) -> None:
    layer = IDConv(12)
    move_norm(layer.norm.norm)
    conv = nn.Conv1d(12, 12, 3, padding=1, groups=12, bias=False)
    conv.weight.data = layer.weight.detach().t()[:, None].clone()
    norm = nn.BatchNorm1d(12)
    norm.load_state_dict(layer.norm.norm.state_dict())
    for module in (layer, norm):
        module.train(training)
    x = frames()
    expected = x + norm(conv(x.transpose(1, 2))).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.norm.norm.running_var, norm.running_var)


def test_pointwise_token_mixing_is_the_grouped_mlp() -> None:
    layer = PointwiseTokenMixing(12, expansion=3, groups=4, dropout=0.5).eval()
    expected = layer.fc2(F.gelu(layer.fc1(frames())))
    torch.testing.assert_close(layer(frames()), expected, atol=1e-5, rtol=0)


def test_channel_mixing_takes_the_larger_half() -> None:
    layer = ChannelMixing(12, expansion=3, dropout=0.5).eval()
    hidden = layer.fc1(frames())
    expected = layer.fc2(F.gelu(torch.max(hidden[..., :36], hidden[..., 36:])))
    torch.testing.assert_close(layer(frames()), expected, atol=1e-5, rtol=0)


def test_an_expansion_need_not_be_whole() -> None:
    by_groups, by_channels = PointwiseTokenMixing(12, 1.5, groups=6), ChannelMixing(12, 1.5)
    assert by_groups.fc1.out_channels == by_channels.fc2.in_features == 18
    assert by_groups(frames()).shape == by_channels(frames()).shape == frames().shape
    with pytest.raises(ValueError, match="groups=4"):
        PointwiseTokenMixing(12, 1.5, groups=4)


@pytest.mark.parametrize("layer_class", [PointwiseTokenMixing, ChannelMixing])
def test_dropout_in_training_only(layer_class: type[nn.Module]) -> None:
    groups = {"groups": 4} if layer_class is PointwiseTokenMixing else {}
    layer = layer_class(12, expansion=3, dropout=0.5, **groups)
    assert not torch.equal(layer(frames()), layer(frames()))
    layer.eval()
    assert torch.equal(layer(frames()), layer(frames()))


def test_gradients_reach_every_weight() -> None:
    layers = nn.Sequential(IDConv(12), PointwiseTokenMixing(12, 3, 4), ChannelMixing(12, 3))
    layers(frames()).square().sum().backward()
    for name, parameter in layers.named_parameters():
        # A bias before a batch norm has none, but there is none here.
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
