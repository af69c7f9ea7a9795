"""From frames to one vector."""

from __future__ import annotations

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn

from speechbrain_ext.nnet.pieces import in_pieces, pieces_of


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
        scores = in_pieces(self.attention, x, width=3 * x.shape[0] * x.shape[2], dim=1)
        return self._statistics(x, scores, mask)

    # In half precision the difference of squares below loses what it measures.
    @fwd_default_precision(cast_inputs=torch.float32)
    def _statistics(self, x: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            scores = scores.masked_fill(~mask.bool(), float("-inf"))
        weights = torch.softmax(scores, dim=1)
        parts = pieces_of(weights, x, width=3 * x.shape[0] * x.shape[2], dim=1)
        means, squares = zip(
            *(((w * part).sum(dim=1), (w * part.square()).sum(dim=1)) for w, part in parts),
            strict=True,
        )
        mean, square = torch.stack(means).sum(dim=0), torch.stack(squares).sum(dim=0)
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
        equal_scores = x.new_zeros(1, 1, 1).expand(x.shape[0], x.shape[1], 1)
        utterance = self._statistics(x, equal_scores, mask)
        hidden = self.of_frame(x) + self.of_utterance(utterance).unsqueeze(1)
        return self._statistics(x, self.attention(hidden), mask)
