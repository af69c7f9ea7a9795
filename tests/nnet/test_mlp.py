"""Two layers on rows, some at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.nnet import mlp, pieces
from speechbrain_ext.nnet.channel_mlp import ChannelMLP
from speechbrain_ext.nnet.mixing import GroupedMLP
from speechbrain_ext.nnet.token_mlp import TokenMLP


@pytest.mark.parametrize("mixer", [ChannelMLP, GroupedMLP, TokenMLP])
@pytest.mark.parametrize("piece", [1, 700, 10_000, 10**9])
@pytest.mark.parametrize("frames", [149, 400])
def test_pieces_change_nothing(
    mixer: Callable[..., nn.Module], piece: int, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = mixer(16, dropout=0.5).eval(), torch.randn(3, frames, 16)
    kept, expected = x.clone(), layer(x)  # gradients are wanted: in one piece
    monkeypatch.setattr(pieces, "PIECE", piece)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(x, kept)


def test_dropout_is_drawn_for_all_rows_where_it_is_on() -> None:
    layer, x = ChannelMLP(16, dropout=0.5), torch.randn(2, 50, 16)
    torch.manual_seed(1)
    expected = layer(x)
    torch.manual_seed(1)
    with torch.no_grad():
        assert torch.equal(layer(x), expected)


def test_the_hidden_layer_is_held_in_pieces() -> None:
    sizes: list[int] = []

    def first(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x.repeat(1, 100)

    with torch.no_grad():
        x = torch.randn(50_000, 4)
        y = mlp.two_layers(first, lambda x: x[:, :4], nn.Dropout(0.1).eval(), x, width=400)
    torch.testing.assert_close(y, nn.functional.gelu(x))
    assert max(sizes) == pieces.PIECE // 400 and sum(sizes) == 50_000
