"""The mixer block: ID-Conv, token mixing, channel mixing with Max-Feature-Map.

From "A Speaker Verification System Based on a Modified MLP-Mixer Student Model for Transformer
Compression" (IEEE Access 13, 2025), in the form published for mel features. All layers work
channels last, (B, T, C): no transposition inside a block.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.dropout import Dropout
from speechbrain_ext.nnet.masking import zero_padding
from speechbrain_ext.nnet.normalization import FrameBatchNorm


class GroupedLinear(nn.Module):
    """A linear layer in which every group of output channels sees its own group of input channels.

    Arguments
    ---------
    in_channels, out_channels : int
        Channels, both divisible by ``groups``.
    groups : int
        Groups G.

    Raises
    ------
    ValueError
        When a number of channels is not divisible by ``groups``.

    Example
    -------
    >>> layer = GroupedLinear(12, 24, groups=4)
    >>> layer(torch.randn(2, 50, 12)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 24]), 96)
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups={groups} must divide the channels {in_channels} and {out_channels}"
            )
        self.groups = groups
        # The initialisation of nn.Linear over the channels that an output really sees.
        bound = (in_channels // groups) ** -0.5
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups))
        self.bias = nn.Parameter(torch.empty(out_channels))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, in_channels) to (B, T, out_channels)."""
        weight = self.weight.view(self.groups, -1, self.weight.shape[1]).transpose(1, 2)
        grouped = x.flatten(0, 1).unflatten(-1, (self.groups, -1)).transpose(0, 1)
        y = torch.baddbmm(self.bias.view(self.groups, 1, -1), grouped, weight)
        return y.transpose(0, 1).reshape(*x.shape[:-1], -1)


class IDConv(nn.Module):
    """Identity-enhanced convolution: ``x + BatchNorm(depthwise convolution over time)``, kernel 3.

    Arguments
    ---------
    channels : int
        Channels C.

    Example
    -------
    >>> IDConv(8)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(3, channels))
        nn.init.uniform_(self.weight, -(3**-0.5), 3**-0.5)
        self.norm = FrameBatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Filter (B, T, C); frames outside the utterance must be zero."""
        if self.training:
            return x + self.norm(self._filter(x, self.weight))
        # In eval mode normalisation and identity are part of the filter.
        scale, offset = self.norm.affine()
        taps = self.weight * scale
        taps = torch.stack([taps[0], taps[1] + 1, taps[2]])
        return self._filter(x, taps) + offset

    @staticmethod
    def _filter(x: Tensor, taps: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, 1, 1))
        return padded[:, :-2] * taps[0] + x * taps[1] + padded[:, 2:] * taps[2]


class PointwiseTokenMixing(nn.Module):
    """Token mixing as published: a grouped MLP on each frame; only the ID-Conv sees neighbours.

    Arguments
    ---------
    channels : int
        Channels C.
    expansion : int
        The hidden layer has ``expansion * C`` channels.
    groups : int
        Groups of channels.
    dropout : float
        Dropout after each layer.

    Example
    -------
    >>> PointwiseTokenMixing(8, expansion=3, groups=4)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, channels: int, expansion: int, groups: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = GroupedLinear(channels, expansion * channels, groups)
        self.fc2 = GroupedLinear(expansion * channels, channels, groups)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, T, C)."""
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class ChannelMixing(nn.Module):
    """Channel-mixing MLP with a Max-Feature-Map: the larger of two halves, then GELU.

    Arguments
    ---------
    channels : int
        Channels C.
    expansion : int
        The hidden layer has ``expansion * C`` channels after the maximum.
    dropout : float
        Dropout after each layer.

    Example
    -------
    >>> ChannelMixing(8, expansion=3)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, channels: int, expansion: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 2 * expansion * channels)
        self.fc2 = nn.Linear(expansion * channels, channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, T, C)."""
        first, second = self.fc1(x).chunk(2, dim=-1)
        return self.dropout(self.fc2(self.dropout(F.gelu(torch.maximum(first, second)))))


class MixerBlock(nn.Module):
    """LayerNorm, ID-Conv, token mixing, residual; LayerNorm, channel mixing, residual.

    Arguments
    ---------
    channels : int
        Channels C.
    token_mixing, channel_mixing : callable
        Given ``channels``, makes the layer that mixes (B, T, C). To the token mixing, frames
        outside the utterance are zeros.

    Example
    -------
    >>> from functools import partial
    >>> block = MixerBlock(
    ...     8,
    ...     token_mixing=partial(PointwiseTokenMixing, expansion=3, groups=4),
    ...     channel_mixing=partial(ChannelMixing, expansion=3),
    ... )
    >>> block(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(
        self,
        channels: int,
        token_mixing: Callable[[int], nn.Module],
        channel_mixing: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.id_conv = IDConv(channels)
        self.token_mixing = token_mixing(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.channel_mixing = channel_mixing(channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); ``mask`` (B, T, 1) is true inside the utterance."""
        x = x + self.mix_tokens(self.norm1(x), mask)
        return x + self.channel_mixing(self.norm2(x))

    def mix_tokens(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What is added to (B, T, C) after its first norm ``x``."""
        # Masked twice: both read along time, and the ID-Conv's offset reaches padded frames too.
        return self.token_mixing(zero_padding(self.id_conv(zero_padding(x, mask)), mask))
