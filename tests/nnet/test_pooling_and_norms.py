"""Pooling, masks and norms against direct formulas and torch layers, utterance by utterance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from speechbrain_ext.nnet.masking import frame_mask, zero_padding
from speechbrain_ext.nnet.normalization import FrameBatchNorm, UtteranceNorm
from speechbrain_ext.nnet.pooling import AttentiveStatisticsPooling, ContextStatisticsPooling

FRAMES = torch.tensor([40, 23, 1])


def batch(channels: int = 6) -> tuple[Tensor, Tensor]:
    """Frames whose padding would be noticed, and relative lengths."""
    x = torch.randn(3, 40, channels, generator=torch.Generator().manual_seed(1))
    for index, count in enumerate(FRAMES):
        x[index, count:] = 1e4
    return x, FRAMES / 40


@pytest.mark.parametrize("time", [3, 7, 201, 999, 10007, 360001])
def test_mask_counts_frames_exactly(time: int) -> None:
    frames = torch.linspace(1, time, 50).long()
    mask = frame_mask(frames / time, time)
    assert mask.shape == (50, time, 1)
    assert torch.equal(mask.sum(dim=(1, 2)), frames)


def test_zero_padding() -> None:
    x, lengths = batch()
    masked = zero_padding(x, frame_mask(lengths, 40))
    assert torch.equal(masked[1, :23], x[1, :23]) and not masked[1, 23:].any()
    assert zero_padding(x, None) is x


@pytest.mark.parametrize("per_channel", [True, False])
def test_pooling_is_the_weighted_mean_and_deviation(per_channel: bool) -> None:
    pooling = AttentiveStatisticsPooling(6, per_channel)
    x, lengths = batch()
    pooled = pooling(x, frame_mask(lengths, 40))
    for index, count in enumerate(FRAMES):
        own = x[index, :count].double()
        scores = pooling.attention(x[index, :count]).double().exp()
        weights = scores / scores.sum(dim=0)
        mean = (weights * own).sum(dim=0)
        variance = (weights * own**2).sum(dim=0) - mean**2
        expected = torch.cat([mean, variance.clamp(min=1e-5).sqrt()]).float()
        torch.testing.assert_close(pooled[index], expected, atol=1e-3, rtol=1e-4)


def test_context_of_the_pooling_is_mean_and_deviation_of_the_utterance() -> None:
    pooling = ContextStatisticsPooling(6, attention_channels=5).double()
    x, lengths = batch()
    pooled = pooling(x.double(), frame_mask(lengths, 40))
    for index, count in enumerate(FRAMES):
        own = x[index, :count].double()
        variance = own.var(dim=0, correction=0).clamp(min=1e-5)
        context = torch.cat([own.mean(dim=0), variance.sqrt()]).expand(count, -1)
        first = torch.cat([pooling.of_frame.weight, pooling.of_utterance.weight], dim=1)
        hidden = torch.cat([own, context], dim=1) @ first.t() + pooling.of_frame.bias
        weights = pooling.attention[1](hidden.tanh()).softmax(dim=0)
        mean = (weights * own).sum(dim=0)
        variance = (weights * (own - mean) ** 2).sum(dim=0).clamp(min=1e-5)
        torch.testing.assert_close(pooled[index], torch.cat([mean, variance.sqrt()]))


def test_pooling_without_mask_is_pooling_of_whole_utterances() -> None:
    pooling = AttentiveStatisticsPooling(6)
    x = torch.randn(2, 30, 6)
    torch.testing.assert_close(pooling(x), pooling(x, frame_mask(torch.ones(2), 30)))


def test_pooling_stays_in_float32_under_autocast() -> None:
    x = torch.randn(2, 30, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert AttentiveStatisticsPooling(6)(x).dtype == torch.float32


def test_utterance_norm_is_an_instance_norm_of_each_utterance() -> None:
    x, lengths = batch()
    normalised = UtteranceNorm()(x, lengths)
    # An utterance of one frame has no variance; torch refuses it.
    for index, count in enumerate(FRAMES[:2]):
        expected = nn.InstanceNorm1d(6)(x[index : index + 1, :count].transpose(1, 2))[0].t()
        torch.testing.assert_close(normalised[index, :count], expected, atol=1e-5, rtol=1e-4)
        alone = UtteranceNorm()(x[index : index + 1, :count])[0]
        torch.testing.assert_close(alone, expected, atol=1e-5, rtol=1e-4)
        assert not normalised[index, count:].any()
    assert not normalised[2].any()


def test_utterance_norm_ignores_padding_that_is_no_number() -> None:
    x, lengths = batch()
    expected = UtteranceNorm()(x, lengths)
    x[1, 23:] = float("nan")
    x[2, 1:] = float("-inf")
    assert torch.equal(UtteranceNorm()(x, lengths), expected)


@pytest.mark.parametrize("training", [True, False])
def test_frame_batch_norm(training: bool) -> None:
    ours = FrameBatchNorm(6).train(training)
    theirs = nn.BatchNorm1d(6).train(training)
    x = torch.randn(2, 30, 6)
    for _ in range(2):
        expected = theirs(x.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=1e-4)
    ours.eval(), theirs.eval()
    scale, offset = ours.affine()
    torch.testing.assert_close(x * scale + offset, ours(x), atol=1e-5, rtol=1e-4)
