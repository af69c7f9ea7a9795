"""Parallel kernels against plain convolutions, one by one and merged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.mixing import IDConv
from speechbrain_ext.nnet.parallel_conv import ParallelIDConv
from tests.lobes.published_networks import randomise_norms

SIZES = [(3, 7, 15), (15, 1), (5,)]


def branch_by_branch(layer: ParallelIDConv, x: Tensor) -> Tensor:
    """The definition, channels first, with PyTorch's own layers."""
    channels = x.shape[2]
    y = x.transpose(1, 2)
    for weight, norm in zip(layer.weights, layer.norms, strict=True):
        filtered = F.conv1d(x.transpose(1, 2), weight, padding="same", groups=channels)
        plain = nn.BatchNorm1d(channels).to(x.dtype)
        plain.load_state_dict(norm.norm.state_dict())  # type: ignore[union-attr]
        y = y + plain.train(layer.training)(filtered)
    return y.transpose(1, 2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("frames", [1, 4, 40])
def test_merged_or_not_it_is_the_identity_and_the_sum_of_its_branches(
    frames: int, sizes: tuple[int, ...], training: bool
) -> None:
    """Eval mode is one filter, training mode several; both to the last digits of float64."""
    layer = randomise_norms(ParallelIDConv(6, sizes)).double().train(training)
    x = torch.randn(3, frames, 6, dtype=torch.float64)
    expected = branch_by_branch(layer, x)
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_merged_filter_is_one_depthwise_convolution(sizes: tuple[int, ...]) -> None:
    layer, x = randomise_norms(ParallelIDConv(6, sizes)).eval(), torch.randn(3, 40, 6)
    kernel, bias = layer.merged()
    conv = nn.Conv1d(6, 6, max(sizes), padding="same", groups=6)
    conv.load_state_dict({"weight": kernel, "bias": bias})
    expected = conv(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_with_one_kernel_it_is_the_id_conv(training: bool) -> None:
    one, other = randomise_norms(IDConv(6)), ParallelIDConv(6, [3])
    state = {f"norms.0.norm.{k}": value for k, value in one.norm.norm.state_dict().items()}
    other.load_state_dict(state | {"weights.0": one.weight.t().unsqueeze(1)})
    x = torch.randn(3, 40, 6)
    one.train(training), other.train(training)
    torch.testing.assert_close(other(x), one(x), atol=1e-5, rtol=1e-5)
    norm = other.norms[0].norm
    assert isinstance(norm, nn.BatchNorm1d)
    torch.testing.assert_close(norm.running_var, one.norm.norm.running_var)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_kernels_start_with_the_weight_of_one(sizes: tuple[int, ...]) -> None:
    """Else many of them would drown the identity."""
    x = torch.randn(32, 100, 64)
    added = ParallelIDConv(64, sizes)(x) - x
    assert added.std().item() == pytest.approx(1.0, abs=0.1)


def test_a_frame_sees_half_of_the_longest_kernel_to_either_side() -> None:
    layer, x = ParallelIDConv(6).eval(), torch.randn(1, 30, 6)
    changed = x.clone()
    changed[0, 15] += 1.0
    differs = (layer(x) != layer(changed))[0].any(dim=-1)
    assert differs.nonzero().flatten().tolist() == list(range(8, 23))


def test_half_precision_filters_in_float32() -> None:
    for training in (True, False):
        layer = randomise_norms(ParallelIDConv(6)).train(training)
        x = torch.randn(2, 30, 6)
        expected = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(layer(x), expected)


def test_gradients_reach_every_weight() -> None:
    layer = ParallelIDConv(6)
    layer(torch.randn(3, 40, 6)).pow(3).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 1e-3, name


@pytest.mark.parametrize("sizes", [(), (4,), (3, 0), (-3,)], ids=str)
def test_kernels_without_a_centre_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="kernel_sizes=.* must be odd"):
        ParallelIDConv(6, sizes)
