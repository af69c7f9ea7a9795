"""SpeechBrain's ECAPA-TDNN, exact under padding in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from torch import Tensor
from torch.nn import functional as F

from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.nnet.masking import frame_mask, zero_padding
from speechbrain_ext.nnet.pieces import in_pieces, pieces_of


class Reflection(NamedTuple):
    """Where the frames are that continue each utterance of a batch at both ends.

    Arguments
    ---------
    source : Tensor
        Frames (B, 1, 2 * reach) that are repeated.
    target : Tensor
        Where they go (B, 1, 2 * reach), among T + 2 * reach frames.
    reach : int
        How far an utterance is continued.
    """

    source: Tensor
    target: Tensor
    reach: int

    def extend(self, x: Tensor) -> Tensor:
        """Continue the utterances (B, C, T): (B, C, T + 2 * reach), zeros after both."""
        ends = x.gather(2, self.source.expand(-1, x.shape[1], -1))
        target = self.target.expand(-1, x.shape[1], -1)
        return F.pad(x, (self.reach, self.reach)).scatter(2, target, ends)


def reflection(frames: Tensor, reach: int) -> Reflection:
    """Continue each utterance by its own reflection, again and again where it is short.

    Arguments
    ---------
    frames : Tensor
        Frames (B,) that are the utterances' own, from 1 to T.
    reach : int
        How far they are continued.

    Returns
    -------
    Reflection
        To be applied to any number of channels.

    Example
    -------
    >>> x = torch.tensor([[[1.0, 2.0, 3.0, 9.0]]])
    >>> reflection(torch.tensor([3]), reach=2).extend(x)
    tensor([[[3., 2., 1., 2., 3., 2., 1., 0.]]])
    """
    steps = torch.arange(reach, device=frames.device)
    count = frames[:, None]
    after = count + steps
    outside = torch.cat([(steps - reach).expand_as(after), after], dim=1)
    # There and back takes 2 (n - 1) frames; a single frame is all there is of its utterance.
    period = (2 * (count - 1)).clamp(min=1)
    phase = torch.remainder(outside, period)
    source = torch.minimum(phase, period - phase)
    return Reflection(source[:, None], (outside + reach)[:, None], reach)


class PaddedECAPA(Lobe):
    """SpeechBrain's ECAPA-TDNN with 5 blocks, whose embeddings do not depend on padding.

    Desplanques et al., "ECAPA-TDNN: Emphasized Channel Attention, Propagation and Aggregation in
    TDNN Based Speaker Verification", Interspeech 2020. All layers and weights are SpeechBrain's,
    under ``network``; on whole utterances of 5 frames and more so are the embeddings. The forward
    pass is written here, because SpeechBrain's lets padding in: its dilated convolutions
    reflect at the end of the batch. Here they reflect at each utterance's end, and statistics are
    those of the utterance's own frames. Any number of lengths costs one pass, no state is kept
    between layers, and nothing depends on the batch or time of a traced example.

    An utterance of any length will do: a short one is reflected as often as it takes, where
    SpeechBrain's needs 5 frames. In training mode batch normalisation takes the frames after an
    utterance's end into its statistics.

    Arguments
    ---------
    input_size : int
        Features F.
    channels : list of int
        Channels of the first convolution, of three blocks and of their aggregate.
    lin_neurons : int
        Embedding size D.

    Attributes
    ----------
    embedding_size : int
        D.
    layers : dict
        Names and channels of the hidden outputs, in their order: ``blocks.1`` to ``blocks.3`` and
        ``mfa``, the submodules of ``network`` that give them.

    Raises
    ------
    ValueError
        When ``channels`` has not five numbers, the three blocks' being equal multiples of 8.

    Example
    -------
    >>> model = PaddedECAPA(80)
    >>> model(torch.randn(2, 201, 80), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 192])
    >>> sum(p.numel() for p in model.parameters())
    6194048
    >>> model.layers
    {'blocks.1': 512, 'blocks.2': 512, 'blocks.3': 512, 'mfa': 1536}
    """

    def __init__(
        self,
        input_size: int,
        channels: Sequence[int] = (512, 512, 512, 512, 1536),
        lin_neurons: int = 192,
    ) -> None:
        super().__init__()
        if len(channels) != 5 or len({*channels[1:4]}) > 1 or channels[1] % 8:
            raise ValueError(
                f"channels={list(channels)} must be five numbers, of which the three in the middle "
                "are the same multiple of 8"
            )
        self.embedding_size = lin_neurons
        self.layers = {f"blocks.{index}": channels[index] for index in (1, 2, 3)}
        self.layers["mfa"] = channels[4]
        self.network = ECAPA_TDNN(input_size, channels=list(channels), lin_neurons=lin_neurons)

    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Lobe`."""
        network: Any = self.network
        if lengths is None:
            lengths = feats.new_ones(feats.shape[0], dtype=torch.float32)
        mask = frame_mask(lengths, feats.shape[1])
        frames = mask.sum(dim=(1, 2))
        inside = mask.transpose(1, 2)
        first = network.blocks[0]
        x = _tdnn(first, zero_padding(feats, mask).transpose(1, 2), _ends(first, frames))
        hidden: list[Tensor] = []
        for block in network.blocks[1:]:
            x = _se_res2net(block, x, frames, inside)
            hidden.append(x)
        x = _aggregate(network.mfa, hidden)
        hidden.append(x)
        if not intermediates:
            hidden.clear()
        pooled = network.asp_bn(_attentive_statistics(network.asp, x, inside))
        embedding = network.fc.conv(pooled).transpose(1, 2)
        return (embedding, [x.transpose(1, 2) for x in hidden]) if intermediates else embedding


# Below, x is (B, C, T), frames (B,) are the utterances' own and inside (B, 1, T) marks them.


def _tdnn(block: Any, x: Tensor, ends: Reflection | None = None) -> Tensor:
    """A convolution, its activation and norm; with ``ends`` it sees neighbours."""
    return _aggregate(block, [x]) if ends is None else _layers(block, ends.extend(x))


def _aggregate(block: Any, parts: Sequence[Tensor]) -> Tensor:
    """The same of all parts' channels, where it sees no neighbours."""
    if block.training:  # its norm has to see all frames
        return _layers(block, *parts)
    width = 3 * parts[0].shape[0] * block.conv.conv.out_channels
    return in_pieces(partial(_layers, block), *parts, width=width, dim=2)


def _layers(block: Any, *parts: Tensor) -> Tensor:
    x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    x = block.norm.norm(block.activation(block.conv.conv(x)))
    return block.dropout(x)


def _ends(block: Any, frames: Tensor) -> Reflection:
    """What the convolution of such a block reads outside the utterances."""
    conv = block.conv.conv
    return reflection(frames, conv.dilation[0] * (conv.kernel_size[0] - 1) // 2)


def _se_res2net(block: Any, x: Tensor, frames: Tensor, inside: Tensor) -> Tensor:
    """Two dense layers, a chain of dilated convolutions between them, a gate for each channel."""
    skip = x if block.shortcut is None else block.shortcut.conv(x)
    chain = block.res2net_block
    ends = _ends(chain.blocks[0], frames)
    first, second, *others = _tdnn(block.tdnn1, x).chunk(chain.scale, dim=1)
    parts = [first, _tdnn(chain.blocks[0], second, ends)]
    for part, layer in zip(others, chain.blocks[1:], strict=True):
        parts.append(_tdnn(layer, part + parts[-1], ends))
    x = _aggregate(block.tdnn2, parts)
    squeeze = block.se_block
    mean = (x * inside).sum(dim=2, keepdim=True) / frames[:, None, None]
    gate = squeeze.conv2.conv(squeeze.relu(squeeze.conv1.conv(mean)))
    return skip + x * squeeze.sigmoid(gate)


def _attentive_statistics(pooling: Any, x: Tensor, inside: Tensor) -> Tensor:
    """Mean and standard deviation (B, 2C, 1) of frames weighted by what they are among all."""
    weights = inside / inside.sum(dim=2, keepdim=True)
    width = 4 * x.shape[0] * x.shape[2]
    parts = pieces_of(x, width=width, dim=1)
    means, deviations = zip(*(_statistics(y, weights, pooling.eps) for (y,) in parts), strict=True)
    overall = torch.cat([*means, *deviations], dim=1)
    # One dense layer on [frame, mean, deviation], of which the last two are the same at all frames.
    tdnn, channels = pooling.tdnn, x.shape[1]
    of_frame, of_overall = tdnn.conv.conv.weight.split([channels, 2 * channels], dim=1)
    scores = F.conv1d(x, of_frame) + F.conv1d(overall, of_overall, tdnn.conv.conv.bias)
    scores = pooling.tanh(tdnn.norm.norm(tdnn.activation(scores)))
    conv, statistics = pooling.conv.conv, []
    # A channel's weights over time are its own.
    for rows, weight, bias in pieces_of(x.transpose(0, 1), conv.weight, conv.bias, width=width):
        of_rows = F.conv1d(scores, weight, bias).float().masked_fill(~inside, float("-inf"))
        statistics.append(
            _statistics(rows.transpose(0, 1), torch.softmax(of_rows, dim=2), pooling.eps)
        )
    means, deviations = zip(*statistics, strict=True)
    return torch.cat([*means, *deviations], dim=1)


def _statistics(x: Tensor, weights: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    mean = (weights * x).sum(dim=2, keepdim=True)
    variance = (weights * (x - mean).square()).sum(dim=2, keepdim=True)
    return mean, variance.clamp(min=eps).sqrt()
