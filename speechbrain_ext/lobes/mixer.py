"""The MLP-Mixer student: small, attention-free, of any length."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.nnet.graphs import makes_graph
from speechbrain_ext.nnet.masking import frame_mask, zero_padding
from speechbrain_ext.nnet.mixing import ChannelMixing, MixerBlock, PointwiseTokenMixing
from speechbrain_ext.nnet.normalization import FrameBatchNorm
from speechbrain_ext.nnet.pieces import rows_of_piece
from speechbrain_ext.nnet.pooling import AttentiveStatisticsPooling


class MLPMixer(Lobe):
    """Speaker embeddings by a convolution, mixer blocks and attentive statistics pooling.

    With its defaults it is the published V2 student of 2,664,576 parameters; with 256 channels, 8
    blocks and expansion 4 it is V2_large, of 7,844,864.

    Arguments
    ---------
    input_size : int
        Bands F of the features.
    channels : int
        Channels C of every block.
    num_blocks : int
        Mixer blocks.
    expansion : float
        Hidden channels of the mixing MLPs, as a multiple of C.
    groups : int
        Groups of the token mixing; divides C.
    lin_neurons : int
        Embedding size D.
    dropout : float
        Dropout in the mixing MLPs.
    token_mixing : callable
        Class of the token mixing: made with ``channels, expansion, groups, dropout``.
    block : callable
        Class of the blocks: made with ``channels, token_mixing, channel_mixing``.
    input_layer : callable, optional
        Class of a layer that reads the features first: made with ``input_size``, it maps (B, T, F)
        to (B, T, F'), F' being its ``output_size``. Frames may depend on none after them.
    output_layer : callable
        Class of a last layer, for embeddings (B, D): made with ``lin_neurons``.
    subsampling : int
        Frames of the features for each frame of the blocks and of the hidden outputs: of T frames
        ``(T - 1) // subsampling + 1`` are left. The convolution steps over as many, and reaches
        from each centre up to the next, at least one frame: it misses none.
    aggregation : callable, optional
        Class of a layer that joins the outputs of all blocks for the pooling: made with
        ``num_blocks`` and ``channels``, it maps a list of (B, T, C) to (B, T, C). Without one the
        last block's output is pooled.
    pooling : callable
        Class of the pooling: made with ``channels``, it maps (B, T, C) and the mask to (B, 2C).

    Attributes
    ----------
    embedding_size : int
        D.
    layers : dict
        Names and channels of the hidden outputs, in their order: ``block1`` and so on.

    Raises
    ------
    ValueError
        When ``groups`` does not divide ``channels``, or ``subsampling`` is not positive.

    Example
    -------
    >>> import torch
    >>> model = MLPMixer()
    >>> model(torch.randn(2, 201, 80), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 512])
    >>> sum(p.numel() for p in model.parameters())
    2664576
    >>> embedding, hidden = MLPMixer(subsampling=4)(torch.randn(2, 201, 80), intermediates=True)
    >>> hidden[0].shape
    torch.Size([2, 51, 192])
    """

    def __init__(
        self,
        input_size: int = 80,
        channels: int = 192,
        num_blocks: int = 6,
        expansion: float = 3,
        groups: int = 4,
        lin_neurons: int = 512,
        dropout: float = 0.1,
        token_mixing: Callable[..., nn.Module] = PointwiseTokenMixing,
        block: Callable[..., nn.Module] = MixerBlock,
        input_layer: Callable[[int], nn.Module] | None = None,
        output_layer: Callable[[int], nn.Module] = nn.Identity,
        subsampling: int = 1,
        aggregation: Callable[[int, int], nn.Module] | None = None,
        pooling: Callable[[int], nn.Module] = AttentiveStatisticsPooling,
    ) -> None:
        super().__init__()
        if subsampling < 1:
            raise ValueError(f"subsampling={subsampling} must be positive")
        self.embedding_size = lin_neurons
        self.layers = {f"block{index}": channels for index in range(1, num_blocks + 1)}
        self.input_layer: nn.Module | None = None
        if input_layer is not None:
            self.input_layer = input_layer(input_size)
            input_size = self.input_layer.output_size  # type: ignore[assignment]
        self.subsampling = subsampling
        half = max(1, subsampling - 1)  # of the kernel, beside its centre
        self.front_conv = nn.Conv1d(
            input_size, channels, 2 * half + 1, stride=subsampling, padding=half, bias=False
        )
        self.front_norm = FrameBatchNorm(channels)
        self.blocks = nn.ModuleList(
            block(
                channels,
                token_mixing=partial(
                    token_mixing, expansion=expansion, groups=groups, dropout=dropout
                ),
                channel_mixing=partial(ChannelMixing, expansion=expansion, dropout=dropout),
            )
            for _ in range(num_blocks)
        )
        self.aggregation = None if aggregation is None else aggregation(num_blocks, channels)
        self.norm = nn.LayerNorm(channels)
        self.pooling = pooling(channels)
        self.fc = nn.Linear(2 * channels, lin_neurons)
        self.fc_norm = nn.BatchNorm1d(lin_neurons)
        self.output_layer = output_layer(lin_neurons)

    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Lobe`."""
        mask = None if lengths is None else frame_mask(lengths, feats.shape[1])
        hidden: list[Tensor] = []
        learns = self.training or torch.is_grad_enabled()
        if intermediates or learns or makes_graph() or self.reach is None:
            x, hidden = self._frames(feats, mask, intermediates)
        else:
            x = self._frames_in_pieces(feats, mask)
        # A frame of the blocks is inside where the frame of the features at its centre is.
        mask = None if mask is None else mask[:, :: self.subsampling]
        pooled = self.pooling(x, mask)
        embedding = self.output_layer(self.fc_norm(self.fc(pooled))).unsqueeze(1)
        return (embedding, hidden) if intermediates else embedding

    @property
    def reach(self) -> int | None:
        """Frames of the blocks before and after a frame that it depends on; None of all."""
        if self.input_layer is not None:
            return None
        reaches = [getattr(block, "reach", None) for block in self.blocks]
        known = [reach for reach in reaches if reach is not None]
        # The convolution before the blocks has the frames beside it.
        return 1 + sum(known) if len(known) == len(reaches) else None

    def _frames(
        self, feats: Tensor, mask: Tensor | None, intermediates: bool = False
    ) -> tuple[Tensor, list[Tensor]]:
        """What is pooled, (B, T', C), of features (B, T, F), and the blocks' outputs if wanted."""
        if self.input_layer is not None:
            feats = self.input_layer(feats)
        x = self.front_conv(zero_padding(feats, mask).transpose(1, 2)).transpose(1, 2)
        x = F.relu(self.front_norm(x))
        mask = None if mask is None else mask[:, :: self.subsampling]
        hidden: list[Tensor] = []
        for block in self.blocks:
            x = block(x, mask)
            if intermediates or self.aggregation is not None:
                hidden.append(x)
        if self.aggregation is not None:
            x = self.aggregation(hidden)
        return self.norm(x), hidden

    def _frames_in_pieces(self, feats: Tensor, mask: Tensor | None) -> Tensor:
        """The same of long utterances some frames at a time, with those that they depend on.

        What the blocks make on their way is that of a piece, for an hour too.
        """
        step, total = self.subsampling, (feats.shape[1] - 1) // self.subsampling + 1
        size = rows_of_piece(feats, width=feats.shape[0] * self.front_conv.out_channels)
        if total <= 2 * size:
            return self._frames(feats, mask)[0]
        reach, whole = self.reach or 0, feats.new_empty(0)
        for begin in range(0, total, size):
            end = min(begin + size, total)
            first, last = max(begin - reach, 0), min(end + reach, total)
            # The convolution reaches from a centre up to the next.
            stop = min((last - 1) * step + max(step, 2), feats.shape[1])
            part = slice(first * step, stop)
            x, _ = self._frames(feats[:, part], None if mask is None else mask[:, part])
            if begin == 0:
                whole = x.new_empty(len(x), total, x.shape[2])
            whole[:, begin:end] = x[:, begin - first : end - first]
        return whole
