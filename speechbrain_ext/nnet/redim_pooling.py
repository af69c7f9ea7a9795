"""Attentive statistics pooling that knows the whole utterance."""

from __future__ import annotations

from torch import Tensor, nn

from speechbrain_ext.nnet.pooling import AttentiveStatisticsPooling


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
    >>> import torch
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
