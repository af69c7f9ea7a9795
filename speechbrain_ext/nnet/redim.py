"""ReDimNet's layers: 2-D blocks over time and frequency, 1-D context over time, its stages.

2-D is (B, T, F, C), channels last, with a mask (B, T, 1, 1); 1-D is (B, T, C) with a mask
(B, T, 1). A mask is true inside the utterance. Frames outside it are zeroed before every
convolution, as if the utterance stood alone before a zero-padded one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.attention import SelfAttention
from speechbrain_ext.nnet.channel_mlp import ChannelMLP
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
    >>> BandBatchNorm(8)(torch.randn(2, 50, 6, 8)).shape
    torch.Size([2, 50, 6, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, T, F, C)."""
        return super().forward(x.flatten(1, 2)).view_as(x)


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


class WeightedSum(nn.Module):
    """The sum of several outputs, weighted for each channel by a learned softmax among them.

    Arguments
    ---------
    num_inputs : int
        Outputs N.
    channels : int
        Channels D of each.

    Example
    -------
    >>> WeightedSum(2, 3)([torch.zeros(1, 1, 3), torch.ones(1, 1, 3)])
    tensor([[[0.5000, 0.5000, 0.5000]]], grad_fn=<AddBackward0>)
    """

    def __init__(self, num_inputs: int, channels: int) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(num_inputs, channels))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Sum N tensors (B, T, D)."""
        weights = torch.softmax(self.scores, dim=0).unbind()
        # One after another: N of them need not be copied together.
        total = weights[0] * inputs[0]
        for weight, x in zip(weights[1:], inputs[1:], strict=True):
            total = total + weight * x
        return total


@dataclass(frozen=True)
class StageSetup:
    """What sets a stage apart.

    Arguments
    ---------
    stride : int
        Bands that are joined to one, whose channels grow by as much.
    num_blocks : int
        2-D blocks.
    expansion : int
        The 2-D blocks have so many times the channels.
    context : int
        Channels of the context over time; 0 for none.
    """

    stride: int
    num_blocks: int
    expansion: int = 1
    context: int = 0


class ReDimStage(nn.Module):
    """A weighted sum of all earlier outputs, seen as 2-D; 2-D blocks; back to 1-D; context.

    The D channels of a frame are those of its first band, then of its second and so on, so that
    both views are the same memory.

    Arguments
    ---------
    num_inputs : int
        Earlier outputs N.
    bands, channels : int
        Bands F and channels C of the 2-D view before the stride; outputs have D = F C channels.
    setup : StageSetup
        What sets the stage apart.
    block : callable
        Class of the 2-D blocks: made with ``channels, group_size``.
    group_size : int
        Channels in a group of the 2-D convolutions.
    context : callable
        Class of the context over time: made with its channels.

    Raises
    ------
    ValueError
        When the stride does not divide the bands, or groups do not come out even.

    Example
    -------
    >>> setup = StageSetup(stride=2, num_blocks=1, context=8)
    >>> stage = ReDimStage(2, 12, 4, setup, ConvNeXtBlock, group_size=4, context=ConvContext)
    >>> stage([torch.randn(3, 50, 48)] * 2).shape
    torch.Size([3, 50, 48])
    """

    def __init__(
        self,
        num_inputs: int,
        bands: int,
        channels: int,
        setup: StageSetup,
        block: Callable[..., nn.Module],
        group_size: int,
        context: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        if bands % setup.stride:
            raise ValueError(f"stride={setup.stride} does not divide {bands} bands")
        self.bands = bands // setup.stride
        outputs = setup.stride * channels
        inner = setup.expansion * outputs
        # The first stage has one input, with nothing to weigh it against.
        self.weighted_sum = WeightedSum(num_inputs, bands * channels) if num_inputs > 1 else None
        self.join = nn.Linear(outputs, inner)  # a convolution whose kernel is its stride
        self.blocks = nn.ModuleList(
            block(inner, group_size=group_size) for _ in range(setup.num_blocks)
        )
        self.squeeze = Squeeze(inner, outputs, group_size) if setup.expansion > 1 else None
        self.context = (
            ContextBlock(bands * channels, setup.context, context) if setup.context else None
        )

    def forward(self, inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
        """Map N tensors (B, T, D) to one; ``mask`` (B, T, 1) is true inside the utterance."""
        x = inputs[0] if self.weighted_sum is None else self.weighted_sum(inputs)
        mask_2d = None if mask is None else mask.unsqueeze(3)
        x = self.join(x.unflatten(2, (self.bands, -1)))
        for block in self.blocks:
            x = block(x, mask_2d)
        if self.squeeze is not None:
            x = self.squeeze(x, mask_2d)
        x = x.flatten(2)
        return x if self.context is None else self.context(x, mask)
