"""The 1-D blocks of ReDimNet: context over time, on (B, T, C)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.attention import SelfAttention
from speechbrain_ext.nnet.channel_mlp import ChannelMLP
from speechbrain_ext.nnet.masking import zero_padding
from speechbrain_ext.nnet.normalization import FrameBatchNorm

KERNELS = (7, 19, 31, 59)


class TimeConvBlock(nn.Module):
    """``x + dense(GELU(BatchNorm(depthwise convolution over time)))``.

    Arguments
    ---------
    channels : int
        Channels C.
    kernel_size : int
        Frames of the convolution; odd.

    Example
    -------
    >>> import torch
    >>> TimeConvBlock(8, kernel_size=7)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.norm = FrameBatchNorm(channels)
        self.dense = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, T, C) to the same; ``mask`` (B, T, 1) is true inside the utterance."""
        y = self.conv(zero_padding(x, mask).transpose(1, 2)).transpose(1, 2)
        return x + self.dense(F.gelu(self.norm(y)))


class ConvContext(nn.Module):
    """Four convolutions over time, of 7, 19, 31 and 59 frames: linear in time.

    Arguments
    ---------
    channels : int
        Channels C.

    Example
    -------
    >>> import torch
    >>> ConvContext(8)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(TimeConvBlock(channels, size) for size in KERNELS)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, T, C) to the same; ``mask`` (B, T, 1) is true inside the utterance."""
        for conv in self.convs:
            x = conv(x, mask)
        return x


class ConvAttentionContext(ConvContext):
    """The same and then a layer of a Transformer, of 4 heads: its cost grows with time squared.

    Norms come after the residual connections, and the feed-forward layer is no wider than C.

    Arguments
    ---------
    channels : int
        Channels C, a multiple of 4.

    Raises
    ------
    ValueError
        When ``channels`` is not a multiple of 4.

    Example
    -------
    >>> import torch
    >>> ConvAttentionContext(8)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.attention = SelfAttention(channels, num_heads=4)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp = ChannelMLP(channels, hidden_size=channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, T, C) to the same; ``mask`` (B, T, 1) is true inside the utterance."""
        x = super().forward(x, mask)
        x = self.norm1(x + self.attention(zero_padding(x, mask), mask))
        return self.norm2(x + self.mlp(x))


class ContextBlock(nn.Module):
    """``x + expand(context(LayerNorm(reduce(x))))``: context over time among fewer channels.

    Arguments
    ---------
    channels : int
        Channels D.
    hidden_size : int
        Channels C of the context.
    context : callable
        Given C, makes a layer whose ``forward(x, mask)`` maps (B, T, C) to the same.

    Example
    -------
    >>> import torch
    >>> ContextBlock(32, hidden_size=8, context=ConvContext)(torch.randn(2, 50, 32)).shape
    torch.Size([2, 50, 32])
    """

    def __init__(
        self, channels: int, hidden_size: int, context: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.context = context(hidden_size)
        self.expand = nn.Linear(hidden_size, channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, T, D) to the same; ``mask`` (B, T, 1) is true inside the utterance."""
        return x + self.expand(self.context(zero_padding(self.norm(self.reduce(x)), mask), mask))
