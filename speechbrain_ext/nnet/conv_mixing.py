"""The separable convolution over time that ConvMixer joins with mixing MLPs."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.nnet.dropout import Dropout


class SeparableConv(Mixer):
    """Depthwise convolution over time, grouped 1×1 convolution, batch normalisation, SiLU.

    The temporal encoding of the ConvMixer for speech: Ng et al., "ConvMixer: Feature interactive
    convolution with curriculum learning for small footprint and noisy far-field keyword spotting",
    ICASSP 2022, arXiv 2201.05863. A block of it joins this with a token MLP and a channel MLP.

    SV-Mixer's paper (arXiv 2509.14136) gives a ConvMixer layer 9.02 M parameters and 1.48 G
    multiply-accumulates at 1024 channels and 149 frames. It does not say how the block was carried
    over from keyword spotting: kernel, groups, hidden sizes and norms are not published, and no
    plain choice of them gives both figures. Ours, beside two MLPs of expansion 4, which alone are
    8.576 M and 1.432 G:

    ========  ================  =================
    groups    parameters        operations
    ========  ================  =================
    1         9.638 M (+6.9 %)  1.589 G (+7.4 %)
    2         9.114 M (+1.0 %)  1.511 G (+2.1 %)
    4         8.852 M (−1.9 %)  1.472 G (−0.5 %)
    8         8.721 M (−3.3 %)  1.453 G (−1.8 %)
    ========  ================  =================

    The 1×1 convolution of keyword spotting is dense, ``groups=1``; 4 groups come closest, by the
    sum of both differences. Left out is its convolution over neighbouring bands of a spectrogram:
    hidden channels have no order. There, kernels grow from 9 to 15 frames of 10 ms with depth and
    the MLPs shrink, T → T/4 → T and C → C/2 → C. Here frames are 20 ms, and 15 in place of 9 add
    0.1 % to the parameters.

    Arguments
    ---------
    channels : int
        Channels C.
    kernel_size : int
        Frames that an output sees, an odd number.
    groups : int
        Groups of the 1×1 convolution, a divisor of C.
    dropout : float
        Dropout on the output.

    Raises
    ------
    ValueError
        When ``kernel_size`` is even or ``groups`` does not divide ``channels``.

    Example
    -------
    >>> import torch
    >>> layer = SeparableConv(8)
    >>> layer(torch.randn(2, 50, 8)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 8]), 104)
    """

    def __init__(
        self, channels: int, kernel_size: int = 9, groups: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd and positive")
        if groups < 1 or channels % groups:
            raise ValueError(f"groups={groups} must divide the channels {channels}")
        self.depthwise = nn.Conv1d(
            channels,
            channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=channels,
            bias=False,
        )
        self.pointwise = nn.Conv1d(channels, channels, 1, groups=groups, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); frames outside the utterance must be zero, so ``mask`` is not used."""
        filtered = self.norm(self.pointwise(self.depthwise(x.transpose(1, 2))))
        return self.dropout(F.silu(filtered).transpose(1, 2))
