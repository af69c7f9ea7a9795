"""The student of a self-supervised Transformer: waveforms, encoder blocks, a back end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from speechbrain_ext.interfaces import BackEnd, Lobe
from speechbrain_ext.lobes.conv_front_end import ConvFrontEnd
from speechbrain_ext.nnet.masking import frame_mask, whole_lengths


class SSLStudent(Lobe):
    """Speaker embeddings from waveforms by the layout of a self-supervised model, any blocks in it.

    The student of SV-Mixer (arXiv 2509.14136): the teacher's convolutional front end, a projection,
    encoder blocks without positional encoding, a sum of the outputs of all blocks weighted by a
    softmax of learned weights, and a back end that embeds it.

    Arguments
    ---------
    front_end : ConvFrontEnd
        From waveforms (B, samples) to features (B, T, ``output_size``).
    block : callable
        Class of the blocks: made with ``hidden_size``, it maps frames (B, T, H) and a mask
        (B, T, 1), or None when nothing is padded, to (B, T, H).
    back_end : callable
        Class of the back end, a :class:`~speechbrain_ext.interfaces.BackEnd`: made with
        ``hidden_size``.
    hidden_size : int
        Channels H of the blocks.
    num_blocks : int
        Blocks.

    Attributes
    ----------
    embedding_size : int
        D.
    layers : dict
        Names and channels of the hidden outputs, in their order: ``block1`` and so on.

    Raises
    ------
    ValueError
        When ``num_blocks`` is not positive.

    Example
    -------
    >>> from functools import partial
    >>> from speechbrain_ext.lobes.back_ends import LinearBackEnd
    >>> from speechbrain_ext.lobes.conv_front_end import ConvFrontEnd
    >>> from speechbrain_ext.nnet.mixing import GroupedMLP
    >>> from speechbrain_ext.nnet.residual import ResidualBlock
    >>> from speechbrain_ext.nnet.token_mlp import TokenMLP
    >>> block = partial(ResidualBlock, mixers=[TokenMLP, GroupedMLP])
    >>> model = SSLStudent(ConvFrontEnd(32), block, LinearBackEnd, hidden_size=16, num_blocks=2)
    >>> model(torch.randn(2, 48000), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 192])
    >>> model.layers
    {'block1': 16, 'block2': 16}
    """

    def __init__(
        self,
        front_end: ConvFrontEnd,
        block: Callable[[int], nn.Module],
        back_end: Callable[[int], BackEnd],
        hidden_size: int = 1024,
        num_blocks: int = 6,
    ) -> None:
        super().__init__()
        if num_blocks < 1:
            raise ValueError(f"num_blocks={num_blocks} must be positive")
        self.layers = {f"block{index}": hidden_size for index in range(1, num_blocks + 1)}
        self.front_end = front_end
        self.projection = nn.Linear(front_end.output_size, hidden_size)
        self.blocks = nn.ModuleList(block(hidden_size) for _ in range(num_blocks))
        self.layer_weights = nn.Parameter(torch.zeros(num_blocks))
        self.back_end = back_end(hidden_size)
        self.embedding_size = self.back_end.embedding_size

    def forward(
        self, wavs: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Lobe` of waveforms."""
        x = self.projection(self.front_end(wavs, lengths))
        mask = None
        if lengths is not None:
            samples = whole_lengths(lengths, wavs.shape[1])
            # In frames: a share of the samples is not exactly the same share of the frames.
            lengths = self.front_end.num_frames(samples) / x.shape[1]
            mask = frame_mask(lengths, x.shape[1])
        shares = self.layer_weights.softmax(dim=0).unbind()
        total = torch.zeros_like(x)
        hidden: list[Tensor] = []
        for share, block in zip(shares, self.blocks, strict=True):
            x = block(x, mask)
            total = total + share * x
            if intermediates:
                hidden.append(x)
        embedding = self.back_end(total, lengths)
        return (embedding, hidden) if intermediates else embedding
