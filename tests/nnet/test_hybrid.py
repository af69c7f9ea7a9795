"""The LSTM block and the bottleneck against their parts put together by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from speechbrain_ext.nnet.bottleneck import Bottleneck
from speechbrain_ext.nnet.hybrid import ForwardLSTM, LSTMMixerBlock
from speechbrain_ext.nnet.mixing import ChannelMixing, PointwiseTokenMixing
from tests.lobes.published_networks import randomise_norms


def test_forward_lstm_is_torchs_and_never_looks_ahead() -> None:
    ours, theirs = ForwardLSTM(6, 5), nn.LSTM(6, 5, batch_first=True)
    theirs.load_state_dict(ours.lstm.state_dict())
    x = torch.randn(2, 30, 6)
    torch.testing.assert_close(ours(x), theirs(x)[0])
    torch.testing.assert_close(ours(x)[:, :11], ours(x[:, :11]))
    assert ours.output_size == 5


def test_block_reads_the_mixed_tokens_in_order() -> None:
    block = LSTMMixerBlock(
        8,
        token_mixing=partial(PointwiseTokenMixing, expansion=3, groups=4),
        channel_mixing=partial(ChannelMixing, expansion=3),
    )
    randomise_norms(block)
    x = torch.randn(2, 30, 8)
    mixed, _ = block.lstm.lstm(block.token_mixing(block.id_conv(block.norm1(x))))
    expected = x + mixed
    expected = expected + block.channel_mixing(block.norm2(expected))
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=0)


def test_bottleneck_leaves_so_many_dimensions() -> None:
    layer, x = Bottleneck(16, bottleneck_size=3), torch.randn(50, 16)
    expected = x @ layer.down.weight.t() + layer.down.bias
    expected = expected @ layer.up.weight.t() + layer.up.bias
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=0)
    assert torch.linalg.matrix_rank((layer(x) - layer.up.bias).detach(), rtol=1e-4) == 3


@pytest.mark.parametrize("size", [0, 17])
def test_bottleneck_that_is_none_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"bottleneck_size={size}"):
        Bottleneck(16, bottleneck_size=size)
