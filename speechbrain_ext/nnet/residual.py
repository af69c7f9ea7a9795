"""Encoder blocks made of mixers: each behind a norm and inside a residual connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.nnet.masking import zero_padding


class ResidualBlock(nn.Module):
    """``x + mixer(LayerNorm(x))`` for one mixer after another.

    MLP-Mixer (Tolstikhin et al., NeurIPS 2021) places norms and residual connections so. The
    blocks of the SSL path are this with other mixers: a SV-Mixer block (arXiv 2509.14136) has
    ``[LocalGlobalMixing, MultiScaleMixing, GroupedMLP]``. That paper gives the order of its modules
    only; norms and residual connections are placed as in MLP-Mixer.

    Arguments
    ---------
    channels : int
        Channels C.
    mixers : list of callable
        Each is given ``channels`` and makes a :class:`~speechbrain_ext.interfaces.Mixer`.

    Raises
    ------
    ValueError
        When there are no mixers.

    Example
    -------
    >>> import torch
    >>> from speechbrain_ext.nnet.mixing import GroupedMLP
    >>> from speechbrain_ext.nnet.token_mlp import TokenMLP
    >>> block = ResidualBlock(16, [TokenMLP, GroupedMLP])
    >>> block(torch.randn(2, 50, 16)).shape
    torch.Size([2, 50, 16])
    """

    def __init__(self, channels: int, mixers: Sequence[Callable[[int], Mixer]]) -> None:
        super().__init__()
        if not mixers:
            raise ValueError(f"mixers={mixers!r}: a block needs at least one mixer")
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in mixers)
        self.mixers = nn.ModuleList(mixer(channels) for mixer in mixers)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); ``mask`` (B, T, 1) is true inside the utterance."""
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            x = x + mixer(zero_padding(norm(x), mask), mask)
        return x
