"""The 2-D blocks of ReDimNet: convolutions over time and frequency.

Inputs are (B, T, F, C), channels last, and the mask (B, T, 1, 1) is true inside the utterance.
Frames outside it are zeroed before every convolution, as if the utterance stood alone before a
zero-padded one.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.masking import zero_padding
from speechbrain_ext.nnet.normalization import FrameBatchNorm


class GroupedConv(nn.Module):
    """A 3 x 3 convolution whose output channels come in groups, each with its own input channels.

    Arguments
    ---------
    in_channels, out_channels : int
        Channels.
    group_size : int
        Output channels of a group.
    bias : bool
        Whether it has a bias.

    Raises
    ------
    ValueError
        When the groups do not come out even.

    Example
    -------
    >>> import torch
    >>> layer = GroupedConv(8, 4, group_size=2)
    >>> layer(torch.randn(2, 50, 6, 8)).shape
    torch.Size([2, 50, 6, 4])
    >>> layer.conv.weight.shape  # two groups, each of 4 inputs
    torch.Size([4, 4, 3, 3])
    """

    def __init__(
        self, in_channels: int, out_channels: int, group_size: int, bias: bool = True
    ) -> None:
        super().__init__()
        groups = out_channels // group_size
        if out_channels % group_size or in_channels % groups:
            raise ValueError(
                f"group_size={group_size} does not divide convolutions of {in_channels} to "
                f"{out_channels} channels"
            )
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, groups=groups, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, T, F, in_channels) to (B, T, F, out_channels)."""
        # PyTorch keeps the order in memory, so that nothing is copied.
        return self.conv(zero_padding(x, mask).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class BandBatchNorm(FrameBatchNorm):
    """Batch normalisation over the batch, time and frequency.

    Arguments
    ---------
    channels : int
        Channels C.

    Example
    -------
    >>> import torch
    >>> BandBatchNorm(8)(torch.randn(2, 50, 6, 8)).shape
    torch.Size([2, 50, 6, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, T, F, C)."""
        return super().forward(x.flatten(1, 2)).view(x.shape)


class ConvNeXtBlock(nn.Module):
    """``x + dense(GELU(BatchNorm(grouped convolution)))``.

    Arguments
    ---------
    channels : int
        Channels C.
    group_size : int
        Channels in a group of the convolution.

    Example
    -------
    >>> import torch
    >>> ConvNeXtBlock(8, group_size=4)(torch.randn(2, 50, 6, 8)).shape
    torch.Size([2, 50, 6, 8])
    """

    def __init__(self, channels: int, group_size: int) -> None:
        super().__init__()
        self.conv = GroupedConv(channels, channels, group_size)
        self.norm = BandBatchNorm(channels)
        self.dense = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, T, F, C) to the same; ``mask`` (B, T, 1, 1) is true inside the utterance."""
        return x + self.dense(F.gelu(self.norm(self.conv(x, mask))))


class ResNetBlock(nn.Module):
    """Two grouped convolutions, each followed by a dense layer; ReLU, norms and an identity.

    Arguments
    ---------
    channels : int
        Channels C.
    group_size : int
        Channels in a group of the convolutions.

    Example
    -------
    >>> import torch
    >>> ResNetBlock(8, group_size=1)(torch.randn(2, 50, 6, 8)).shape
    torch.Size([2, 50, 6, 8])
    """

    def __init__(self, channels: int, group_size: int) -> None:
        super().__init__()
        self.conv1 = GroupedConv(channels, channels, group_size, bias=False)
        self.dense1 = nn.Linear(channels, channels)
        self.norm1 = BandBatchNorm(channels)
        self.conv2 = GroupedConv(channels, channels, group_size, bias=False)
        self.dense2 = nn.Linear(channels, channels)
        self.norm2 = BandBatchNorm(channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, T, F, C) to the same; ``mask`` (B, T, 1, 1) is true inside the utterance."""
        y = self.norm1(F.relu(self.dense1(self.conv1(x, mask))))
        y = self.norm2(self.dense2(self.conv2(y, mask)))
        return F.relu(x + y)


class Squeeze(nn.Module):
    """From expanded channels back: a grouped convolution, BatchNorm, GELU, a dense layer.

    Arguments
    ---------
    in_channels, out_channels : int
        Channels.
    group_size : int
        Output channels in a group of the convolution.

    Example
    -------
    >>> import torch
    >>> Squeeze(16, 8, group_size=1)(torch.randn(2, 50, 6, 16)).shape
    torch.Size([2, 50, 6, 8])
    """

    def __init__(self, in_channels: int, out_channels: int, group_size: int) -> None:
        super().__init__()
        self.conv = GroupedConv(in_channels, out_channels, group_size)
        self.norm = BandBatchNorm(out_channels)
        self.dense = nn.Linear(out_channels, out_channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, T, F, in_channels); ``mask`` (B, T, 1, 1) is true inside the utterance."""
        return self.dense(F.gelu(self.norm(self.conv(x, mask))))
