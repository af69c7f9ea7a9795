"""Token mixing along time against the MLP-Mixer's, written plainly, window by window."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.masking import frame_mask
from speechbrain_ext.nnet.mixing import ChannelMixing, MixerBlock
from speechbrain_ext.nnet.token_mlp import TokenMLP
from tests.lobes.published_networks import randomise_norms


class PlainTokenMixing(nn.Module):
    """The token-mixing MLP of MLP-Mixer: transpose, two dense layers, transpose back."""

    def __init__(self, tokens: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(tokens, hidden)
        self.fc2 = nn.Linear(hidden, tokens)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, tokens, C)."""
        return self.fc2(F.gelu(self.fc1(x.transpose(1, 2)))).transpose(1, 2)


def both(tokens: int = 20) -> tuple[TokenMLP, PlainTokenMixing]:
    torch.manual_seed(0)
    ours = TokenMLP(6, expansion=3, groups=2, dropout=0.5, num_tokens=tokens).eval()
    plain = PlainTokenMixing(tokens, 3 * tokens)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def test_one_window_is_the_mlp_mixer() -> None:
    ours, plain = both()
    x = torch.randn(3, 20, 6)
    torch.testing.assert_close(ours(x), plain(x), atol=1e-5, rtol=0)
    # The same function in training too: its derivatives with respect to every weight.
    ours(x).square().sum().backward(), plain(x).square().sum().backward()
    for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("time", [1, 19, 21, 40, 59])
def test_any_time_is_windows_from_frame_0(time: int) -> None:
    ours, plain = both()
    x = torch.randn(2, time, 6)
    windows = F.pad(x, (0, 0, 0, -time % 20)).split(20, dim=1)
    expected = torch.cat([plain(window) for window in windows], dim=1)[:, :time]
    torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=0)


def test_frames_see_their_window_alone() -> None:
    ours, _ = both()
    x = torch.randn(1, 60, 6)
    changed = x.clone()
    changed[0, 25] += 1.0
    differs = (ours(x) != ours(changed))[0].any(dim=-1)
    assert differs[20:40].all() and not differs[:20].any() and not differs[40:].any()


def test_block_zeroes_padding_that_the_id_conv_moved() -> None:
    block = MixerBlock(
        6,
        token_mixing=partial(TokenMLP, expansion=3, groups=2, num_tokens=20),
        channel_mixing=partial(ChannelMixing, expansion=3),
    )
    randomise_norms(block)
    x = torch.randn(2, 50, 6)
    alone = block(x[1:, :27])
    x[1, 27:] = 100.0
    together = block(x, frame_mask(torch.tensor([1.0, 27 / 50]), 50))
    torch.testing.assert_close(together[1:, :27], alone, atol=1e-5, rtol=0)
    unmasked = block(x)
    assert not torch.allclose(unmasked[1, :27], alone[0], atol=1e-2)


def test_hidden_tokens() -> None:
    # A window of the whole crop of 2 s at the parameters of the pointwise mixing, 56,064.
    layer = TokenMLP(192, expansion=3, groups=4, num_tokens=201, hidden_tokens=138)
    assert sum(p.numel() for p in layer.parameters()) == 2 * 201 * 138 + 138 + 201 == 55_815


def test_dropout_in_training_only() -> None:
    layer, x = both()[0], torch.randn(1, 30, 6)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


@pytest.mark.parametrize("sizes", [{"num_tokens": 0}, {"hidden_tokens": 0}])
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(sizes))}=0"):
        TokenMLP(6, expansion=3, groups=2, **sizes)
