"""The channel mixing of MLP-Mixer, which is also the feed-forward layer of a Transformer."""

from __future__ import annotations

from torch import Tensor, nn

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.nnet.dropout import Dropout
from speechbrain_ext.nnet.mlp import two_layers


class ChannelMLP(Mixer):
    """Two dense layers on each frame, GELU between them.

    Arguments
    ---------
    channels : int
        Channels C.
    hidden_size : int, optional
        Channels of the hidden layer, 4C by default.
    dropout : float
        Dropout after each layer.

    Raises
    ------
    ValueError
        When ``hidden_size`` is not positive.

    Example
    -------
    >>> import torch
    >>> layer = ChannelMLP(8)
    >>> layer(torch.randn(2, 50, 8)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 8]), 552)
    """

    def __init__(self, channels: int, hidden_size: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        hidden_size = 4 * channels if hidden_size is None else hidden_size
        if hidden_size < 1:
            raise ValueError(f"hidden_size={hidden_size} must be positive")
        self.fc1 = nn.Linear(channels, hidden_size)
        self.fc2 = nn.Linear(hidden_size, channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); no frame sees another, so ``mask`` is not used."""
        rows, width = x.flatten(0, 1), self.fc1.out_features
        return two_layers(self.fc1, self.fc2, self.dropout, rows, width).view_as(x)
