"""A stage of ReDimNet: from all earlier outputs to the next, by way of 2-D."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from speechbrain_ext.nnet.redim_blocks import Squeeze
from speechbrain_ext.nnet.redim_context import ContextBlock


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
    >>> from speechbrain_ext.nnet.redim_blocks import ConvNeXtBlock
    >>> from speechbrain_ext.nnet.redim_context import ConvContext
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
