"""ReDimNet: one network in two views, 1-D over time and 2-D over time and frequency."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.nnet.masking import frame_mask, zero_padding
from speechbrain_ext.nnet.pooling import ContextStatisticsPooling
from speechbrain_ext.nnet.redim import (
    ConvAttentionContext,
    ConvNeXtBlock,
    ReDimStage,
    ResNetBlock,
    StageSetup,
    WeightedSum,
)


@dataclass(frozen=True)
class ReDimSize:
    """What makes one size of ReDimNet.

    Arguments
    ---------
    bands, channels : int
        Bands F and channels C in which the input is seen; F C channels in all, at every depth.
    block : callable
        Class of the 2-D blocks: made with ``channels, group_size``.
    group_size : int
        Channels in a group of the 2-D convolutions.
    stages : tuple of StageSetup
        The stages.
    """

    bands: int
    channels: int
    block: Callable[..., nn.Module]
    group_size: int
    stages: tuple[StageSetup, ...]


# The paper prints parameters and operations for 2 s, in frames of 15 ms: 1.0 M and 0.43 G, 2.2 M
# and 0.54 G, 4.7 M and 0.90 G. Bands, channels, stages and kinds of blocks are those of WeSpeaker's
# port, where B1 has 2.1 M and 0.59 G and B2 4.9 M and 0.94 G (and ID R&D's released B2 5.1 M). To
# meet both printed figures, the fourth stage has a context of 108 channels in B1 (72 there) and of
# 96 in B2 (144 there), and the groups of B1 are of 4 channels (8 there).
SIZES = {
    "b0": ReDimSize(
        bands=60,
        channels=10,
        block=ResNetBlock,
        group_size=1,
        stages=(
            StageSetup(stride=1, num_blocks=2, context=20),
            StageSetup(stride=2, num_blocks=3, expansion=2, context=20),
            StageSetup(stride=1, num_blocks=3, expansion=3, context=20),
            StageSetup(stride=2, num_blocks=4, expansion=2, context=60),
            StageSetup(stride=1, num_blocks=3, context=60),
        ),
    ),
    "b1": ReDimSize(
        bands=72,
        channels=12,
        block=ConvNeXtBlock,
        group_size=4,
        stages=(
            StageSetup(stride=1, num_blocks=2),
            StageSetup(stride=2, num_blocks=3),
            StageSetup(stride=3, num_blocks=4, context=72),
            StageSetup(stride=2, num_blocks=5, context=108),
            StageSetup(stride=2, num_blocks=3, context=108),
        ),
    ),
    "b2": ReDimSize(
        bands=72,
        channels=16,
        block=ConvNeXtBlock,
        group_size=4,
        stages=(
            StageSetup(stride=1, num_blocks=2, context=96),
            StageSetup(stride=2, num_blocks=2, context=96),
            StageSetup(stride=1, num_blocks=3, context=96),
            StageSetup(stride=2, num_blocks=4, context=96),
            StageSetup(stride=1, num_blocks=4, context=144),
            StageSetup(stride=2, num_blocks=4, context=288),
        ),
    ),
}


class ReDimNet(Lobe):
    """Speaker embeddings by stages that reshape their input to 2-D and back.

    Yakovlev et al., "Reshape Dimensions Network for Speaker Recognition", Interspeech 2024
    (arXiv 2407.18223). Each stage takes a softmax-weighted sum of all earlier 1-D outputs, sees it
    as channels, time and frequency, joins bands, applies 2-D blocks, and is 1-D again for its
    context over time. The product of bands and channels stays, so that all 1-D outputs add up.
    Attentive statistics pooling, batch normalisation and a linear layer follow.

    The published context ends with self-attention: memory is linear in time, but the cost bends, by
    2 T² multiply-accumulates for each of its channels. ``context`` ``ConvContext`` leaves
    the attention out and makes it linear.

    Arguments
    ---------
    input_size : int
        Features F. Where they are not the bands of this size, 60 in B0 and 72 in B1 and B2, a
        linear layer on each frame makes them so.
    size : str or ReDimSize
        ``b0``, ``b1``, ``b2``, of 1.0, 2.2 and 4.7 M parameters, or one's own.
    lin_neurons : int
        Embedding size D.
    context : callable
        Class of the context over time: made with ``channels``, its ``forward(x, mask)`` maps
        (B, T, C) to the same.

    Attributes
    ----------
    embedding_size : int
        D.
    layers : dict
        Names and channels of the hidden outputs, in their order: ``stage1`` and so on.

    Raises
    ------
    ValueError
        When there is no such ``size``, its strides do not divide its bands or its groups do not
        come out even.

    Example
    -------
    >>> import torch
    >>> model = ReDimNet(80, size="b0")
    >>> model(torch.randn(2, 50, 80), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 192])
    >>> model.layers
    {'stage1': 600, 'stage2': 600, 'stage3': 600, 'stage4': 600, 'stage5': 600}
    """

    def __init__(
        self,
        input_size: int,
        size: str | ReDimSize = "b0",
        lin_neurons: int = 192,
        context: Callable[[int], nn.Module] = ConvAttentionContext,
    ) -> None:
        super().__init__()
        if isinstance(size, str):
            if size not in SIZES:
                raise ValueError(f"size={size!r} is none of {', '.join(SIZES)}")
            size = SIZES[size]
        bands, channels = size.bands, size.channels
        whole = bands * channels
        self.embedding_size = lin_neurons
        self.layers = {f"stage{index}": whole for index in range(1, len(size.stages) + 1)}
        self.to_bands = nn.Identity() if input_size == bands else nn.Linear(input_size, bands)
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.stem_norm = nn.LayerNorm(channels)
        self.stages = nn.ModuleList()
        for index, setup in enumerate(size.stages, start=1):
            self.stages.append(
                ReDimStage(index, bands, channels, setup, size.block, size.group_size, context)
            )
            bands, channels = bands // setup.stride, channels * setup.stride
        self.weighted_sum = WeightedSum(len(size.stages) + 1, whole)
        self.pooling = ContextStatisticsPooling(whole)
        self.norm = nn.BatchNorm1d(2 * whole)
        self.fc = nn.Linear(2 * whole, lin_neurons)

    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Lobe`."""
        mask = None if lengths is None else frame_mask(lengths, feats.shape[1])
        x = zero_padding(self.to_bands(feats), mask)
        x = self.stem(x.unsqueeze(1)).permute(0, 2, 3, 1)
        outputs = [self.stem_norm(x).flatten(2)]
        for stage in self.stages:
            outputs.append(stage(outputs, mask))
        pooled = self.pooling(self.weighted_sum(outputs), mask)
        embedding = self.fc(self.norm(pooled)).unsqueeze(1)
        return (embedding, outputs[1:]) if intermediates else embedding
