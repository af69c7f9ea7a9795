"""Self-attention against its formula, written plainly, and against PyTorch's own layer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.nnet.attention import SelfAttention
from speechbrain_ext.nnet.channel_mlp import ChannelMLP
from speechbrain_ext.nnet.conv_mixing import SeparableConv
from speechbrain_ext.nnet.cycle import CycleLinear
from speechbrain_ext.nnet.residual import ResidualBlock
from tests.nnet.mixer_contract import (
    check_bf16,
    check_gradients,
    check_onnx,
    check_padding,
    padded,
)


def reference(mixer: SelfAttention) -> nn.MultiheadAttention:
    """PyTorch's layer with the weights of ``mixer``."""
    channels = mixer.query.in_features
    layer = nn.MultiheadAttention(channels, mixer.num_heads, batch_first=True)
    projections = (mixer.query, mixer.key, mixer.value)
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.cat([linear.weight for linear in projections]))
        layer.in_proj_bias.copy_(torch.cat([linear.bias for linear in projections]))
        layer.out_proj.load_state_dict(mixer.output.state_dict())
    return layer.eval()


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_is_multi_head_attention(heads: int) -> None:
    mixer = SelfAttention(16, heads).eval()
    x, mask = padded(3, 20, 16)
    expected, _ = reference(mixer)(x, x, x, key_padding_mask=~mask.squeeze(-1))
    torch.testing.assert_close(mixer(x, mask), expected, atol=1e-6, rtol=1e-5)
    assert sum(p.numel() for p in mixer.parameters()) == 4 * 16 * 16 + 4 * 16


def test_one_head_by_the_formula() -> None:
    mixer, x = SelfAttention(4, num_heads=1), torch.randn(1, 5, 4)
    query, key, value = mixer.query(x), mixer.key(x), mixer.value(x)
    weights = (query @ key.transpose(1, 2) / 4**0.5).softmax(dim=-1)
    torch.testing.assert_close(mixer(x), mixer.output(weights @ value))


def test_order_of_frames_does_not_matter() -> None:
    mixer, x = SelfAttention(8, num_heads=2), torch.randn(2, 10, 8)
    order = torch.randperm(10)
    torch.testing.assert_close(mixer(x[:, order]), mixer(x)[:, order])


@pytest.mark.parametrize("outside", [1e3, -1e3])
def test_keys_outside_the_utterance_weigh_nothing(outside: float) -> None:
    # What a key holds does not matter, though the caller gives zeros.
    mixer = SelfAttention(8, num_heads=2)
    x, mask = padded(3, 20, 8)
    other = torch.where(mask, x, outside)
    found, expected = mixer(other, mask)[mask.squeeze(-1)], mixer(x, mask)[mask.squeeze(-1)]
    torch.testing.assert_close(found, expected)


def test_dropout_in_training_only() -> None:
    mixer, x = SelfAttention(8, num_heads=2, dropout=0.5), torch.randn(1, 30, 8)
    assert not torch.equal(mixer(x), mixer(x))
    mixer.eval()
    assert torch.equal(mixer(x), mixer(x))


def test_dropout_reaches_the_attention_weights() -> None:
    mixer = SelfAttention(8, num_heads=2, dropout=0.5)
    nn.init.eye_(mixer.output.weight)
    seen: list[Tensor] = []
    mixer.output.register_forward_hook(lambda layer, args, output: seen.append(args[0]))
    x = torch.randn(1, 30, 8)
    mixer(x), mixer(x)
    assert not torch.equal(*seen)


def test_mixer() -> None:
    check_padding(SelfAttention(16, num_heads=4), 16)
    # A constant added to all keys adds the same to all of a query's logits: softmax removes it.
    check_gradients(SelfAttention(16, num_heads=4), 16, without=("key.bias",))
    check_bf16(SelfAttention(16, num_heads=4), 16)


def test_onnx(tmp_path: Path) -> None:
    check_onnx(SelfAttention(16, num_heads=4), 16, tmp_path)


@pytest.mark.slow
def test_onnx_by_the_newer_exporter(tmp_path: Path) -> None:
    # One slow export for this mixer and those that it is compared with.
    attention = partial(SelfAttention, num_heads=4)
    block = ResidualBlock(16, [attention, CycleLinear, SeparableConv, ChannelMLP])
    check_onnx(block, 16, tmp_path, dynamo=True)


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_that_do_not_divide_the_channels_are_refused(heads: int) -> None:
    with pytest.raises(ValueError, match=f"num_heads={heads} must divide the channels 16"):
        SelfAttention(16, heads)
