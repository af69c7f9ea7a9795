"""From frames to one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn

from speechbrain_ext.nnet.graphs import makes_graph
from speechbrain_ext.nnet.pieces import pieces_of


class AttentiveStatisticsPooling(nn.Module):
    """Attention-weighted mean and standard deviation over time.

    Okabe et al., "Attentive Statistics Pooling for Deep Speaker Embedding", Interspeech 2018. The
    attention is Linear, tanh, Linear and a softmax over time.

    Arguments
    ---------
    channels : int
        Channels C of the frames, and of the hidden layer of the attention.
    per_channel : bool
        Whether every channel has its own weights over time; otherwise all share one.

    Example
    -------
    >>> AttentiveStatisticsPooling(8)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 16])
    """

    def __init__(self, channels: int, per_channel: bool = True) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Linear(channels, channels),
            nn.Tanh(),
            nn.Linear(channels, channels if per_channel else 1),
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool.

        Arguments
        ---------
        x : Tensor
            Frames (B, T, C).
        mask : Tensor, optional
            True inside the utterance (B, T, 1).

        Returns
        -------
        Tensor
            Means then standard deviations (B, 2C), float32.
        """
        return self._pool(x, self.attention, mask)

    def _pool(self, x: Tensor, score: Callable[[Tensor], Tensor], mask: Tensor | None) -> Tensor:
        """Pool frames by the softmax over time of their scores, (B, T, C) or (B, T, 1)."""
        if makes_graph() or torch.is_grad_enabled():
            return self._statistics(x, score(x), mask)
        frames = (x,) if mask is None else (x, mask)
        width = 4 * x.shape[0] * x.shape[2]
        pieces = pieces_of(*frames, width=width, dim=1)
        return self._joined([self._sums(part, score(part), *of) for part, *of in pieces])

    # In half precision the difference of squares below loses what it measures.
    @fwd_default_precision(cast_inputs=torch.float32)
    def _statistics(self, x: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            scores = scores.masked_fill(~mask.bool(), float("-inf"))
        weights = torch.softmax(scores, dim=1)
        mean, square = (weights * x).sum(dim=1), (weights * x.square()).sum(dim=1)
        return _means_and_deviations(mean, square)

    @fwd_default_precision(cast_inputs=torch.float32)
    def _sums(self, x: Tensor, scores: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """The highest scores (B, C) of some frames; with weights that are 1 there, the sums (B, C)
        of the weights, of the frames and of their squares."""
        if mask is not None:
            scores = scores.masked_fill(~mask.bool(), float("-inf"))
        highest = scores.amax(dim=1, keepdim=True)
        # Of frames that all lie outside the highest is no number.
        weights = (scores - highest.clamp(min=torch.finfo(torch.float32).min)).exp()
        sums = [weights.sum(dim=1), (weights * x).sum(dim=1), (weights * x.square()).sum(dim=1)]
        return [each.expand_as(sums[1]) for each in (highest.squeeze(1), *sums)]

    @staticmethod
    def _joined(parts: Sequence[Sequence[Tensor]]) -> Tensor:
        """What the sums of pieces give together: the softmax, without all scores at once."""
        highest, *sums = (torch.stack(list(each)) for each in zip(*parts, strict=True))
        shares = (highest - highest.amax(dim=0)).exp()
        total, mean, square = ((shares * each).sum(dim=0) for each in sums)
        return _means_and_deviations(mean / total, square / total)


def _means_and_deviations(mean: Tensor, square: Tensor) -> Tensor:
    """Of the means (B, C) of frames and of their squares, (B, 2C)."""
    variance = square - mean.square()
    return torch.cat([mean, variance.clamp(min=1e-5).sqrt()], dim=-1)


class ContextStatisticsPooling(AttentiveStatisticsPooling):
    """Attentive statistics whose attention sees mean and deviation of the utterance too.

    As in ECAPA-TDNN (Desplanques et al., Interspeech 2020): a dense layer on the frame, the mean
    and the standard deviation, tanh, a dense layer and a softmax over time for each channel. What
    the first layer makes of the last two is the same at all frames and is computed once.

    Arguments
    ---------
    channels : int
        Channels C of the frames.
    attention_channels : int
        Channels of the hidden layer.

    Example
    -------
    >>> ContextStatisticsPooling(8)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 16])
    """

    def __init__(self, channels: int, attention_channels: int = 128) -> None:
        super().__init__(channels)
        self.of_frame = nn.Linear(channels, attention_channels)
        self.of_utterance = nn.Linear(2 * channels, attention_channels, bias=False)
        self.attention = nn.Sequential(nn.Tanh(), nn.Linear(attention_channels, channels))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool frames (B, T, C), ``mask`` (B, T, 1): means then deviations (B, 2C), float32."""
        utterance = self._pool(x, lambda part: part.new_zeros(*part.shape[:2], 1), mask)
        of_utterance = self.of_utterance(utterance).unsqueeze(1)
        return self._pool(x, lambda part: self.attention(self.of_frame(part) + of_utterance), mask)
