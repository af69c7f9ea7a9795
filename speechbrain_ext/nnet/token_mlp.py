"""Token mixing along time, as in MLP-Mixer, for inputs of any length."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.dropout import Dropout


class TokenMLP(nn.Module):
    """One MLP along time for all channels, on windows of ``num_tokens`` frames.

    The token mixing of Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", NeurIPS
    2021, exactly so where T is ``num_tokens``. The windows start at frame 0 of each utterance, and
    the last is filled up with zeros. By default three windows are a crop of 2 s (201 frames), so
    that training fills up nothing, and the hidden layer has ``expansion * num_tokens`` tokens:
    about the operations of the pointwise mixing of V2.

    Arguments
    ---------
    channels : int
        Channels C; the weights do not depend on it.
    expansion : int
        The hidden layer has ``expansion * num_tokens`` tokens, unless ``hidden_tokens`` is given.
    groups : int
        Not used: all channels share the MLP.
    dropout : float
        Dropout after each layer.
    num_tokens : int
        Frames N of a window.
    hidden_tokens : int, optional
        Tokens of the hidden layer.

    Raises
    ------
    ValueError
        When ``num_tokens`` or ``hidden_tokens`` is not positive.

    Example
    -------
    >>> layer = TokenMLP(8, expansion=3, groups=4, num_tokens=20)
    >>> layer(torch.randn(2, 50, 8)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 8]), 2480)
    """

    def __init__(
        self,
        channels: int,
        expansion: int,
        groups: int,
        dropout: float = 0.0,
        num_tokens: int = 67,
        hidden_tokens: int | None = None,
    ) -> None:
        super().__init__()
        hidden = expansion * num_tokens if hidden_tokens is None else hidden_tokens
        if num_tokens < 1 or hidden < 1:
            raise ValueError(f"num_tokens={num_tokens} and hidden_tokens={hidden} must be positive")
        self.num_tokens = num_tokens
        self.fc1 = nn.Linear(num_tokens, hidden)
        self.fc2 = nn.Linear(hidden, num_tokens)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, T, C); frames outside the utterance must be zero."""
        batch, time, channels = x.shape
        count = (time + self.num_tokens - 1) // self.num_tokens
        x = F.pad(x, (0, 0, 0, count * self.num_tokens - time))
        x = x.reshape(batch * count, self.num_tokens, channels)
        x = self.dropout(F.gelu(_along_time(self.fc1, x)))
        x = self.dropout(_along_time(self.fc2, x))
        return x.reshape(batch, count * self.num_tokens, channels)[:, :time]


def _along_time(layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer`` on the second axis of (B, N, C): the weights on the left, nothing transposed."""
    weight = layer.weight.expand(x.shape[0], -1, -1)
    return torch.baddbmm(layer.bias.unsqueeze(-1), weight, x)
