"""Token mixing along time against the MLP-Mixer's, written plainly, window by window."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.measure.speed import count_macs
from speechbrain_ext.nnet.masking import frame_mask
from speechbrain_ext.nnet.mixing import ChannelMixing, MixerBlock
from speechbrain_ext.nnet.token_mlp import TokenMLP
from tests.lobes.published_networks import randomise_norms
from tests.nnet.mixer_contract import check_bf16, check_gradients, check_onnx, check_padding


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


def by_hand(plain: nn.Module, x: Tensor, tokens: int = 20) -> Tensor:
    """What ``plain`` makes of one utterance (T, C), window by window."""
    frames, mixed = len(x), []
    for first in range(0, frames, tokens):
        start = min(first, max(frames - tokens, 0))
        repeated = x.repeat(tokens, 1)  # an utterance shorter than a window goes on from its start
        window = repeated[:tokens] if frames < tokens else x[start : start + tokens]
        mixed.append(plain(window[None])[0, first - start : frames - start])
    return torch.cat(mixed)


@pytest.mark.parametrize("time", [1, 2, 19, 20, 21, 40, 59, 60])
def test_the_last_window_ends_with_the_utterance_and_a_short_one_repeats(time: int) -> None:
    ours, plain = both()
    x = torch.randn(2, time, 6)
    expected = torch.stack([by_hand(plain, utterance) for utterance in x])
    torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=0)


def test_every_length_in_one_batch() -> None:
    ours, plain = both()
    mask = frame_mask(torch.arange(1, 66) / 65, 65)
    x = torch.randn(65, 65, 6)
    mixed = ours(x * mask, mask)
    # Whatever stands in the padding, no window holds it.
    torch.testing.assert_close(ours(x.masked_fill(~mask, 1e9), mask) * mask, mixed * mask)
    assert mixed.isfinite().all()
    for frames in range(1, 66):
        expected = by_hand(plain, x[frames - 1, :frames])
        torch.testing.assert_close(mixed[frames - 1, :frames], expected, atol=1e-5, rtol=0)


def test_frames_see_their_window_alone() -> None:
    ours, _ = both()
    x = torch.randn(1, 50, 6)
    for frame, seen in ((25, range(20, 40)), (35, range(20, 50)), (45, range(40, 50))):
        changed = x.clone()
        changed[0, frame] += 1.0
        differs = (ours(x) != ours(changed))[0].any(dim=-1)
        assert differs.nonzero().flatten().tolist() == list(seen)


def test_windows_of_one_length_need_no_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, plain = both()
    monkeypatch.setattr("speechbrain_ext.nnet.token_mlp._windows", None)
    x = torch.randn(2, 20, 6)
    torch.testing.assert_close(ours(x), plain(x), atol=1e-5, rtol=0)


def test_contract() -> None:
    make = partial(TokenMLP, expansion=2, num_tokens=20)
    check_padding(make(6), 6, times=(1, 2, 20, 21, 50))
    check_gradients(make(6), 6)
    check_bf16(make(6), 6)


def test_onnx_below_and_above_a_window(tmp_path: Path) -> None:
    check_onnx(TokenMLP(6, num_tokens=20), 6, tmp_path)


def test_work_is_linear_in_time() -> None:
    layer = TokenMLP(6, num_tokens=20).eval()
    one = count_macs(layer, torch.randn(1, 20, 6))
    assert one == 2 * 20 * 80 * 6
    assert count_macs(layer, torch.randn(1, 200, 6)) == 10 * one
    assert count_macs(layer, torch.randn(1, 201, 6)) == 11 * one


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
