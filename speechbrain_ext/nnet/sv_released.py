"""SV-Mixer's block in the layout of its authors' code, which is not that of their paper's text.

Both layouts fit the published size. The text (arXiv 2509.14136) is built in
:mod:`~speechbrain_ext.nnet.sv_mixing`: three modules, one after another. The code (github.com/
Jungwoo4021/SV-Mixer, licence MIT, ``models/modules.py`` at commit ba0622e) has two norms and two
residual connections: :class:`~speechbrain_ext.nnet.residual.ResidualBlock` of
:class:`ParallelLocalGlobalMixing` and :class:`MultiScaleGroupMixing`. At 1024 channels and 149
frames that is 3,745,969 parameters and 0.63 G multiply-accumulates.

Written anew from that layout. Ours are exactness under padding and inputs of any length; theirs is
made for one length. In averages of two theirs leaves an odd last frame out and stretches the rest
to the full length; here it stands for a pair, as in the other layout. Theirs has no dropout at
the end of the last block; here all blocks are alike.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.nnet.dropout import Dropout
from speechbrain_ext.nnet.masking import zero_padding
from speechbrain_ext.nnet.sv_mixing import MultiScaleMixing
from speechbrain_ext.nnet.token_mlp import TokenMLP


class ParallelLocalGlobalMixing(Mixer):
    """Mixing along time: two depthwise convolutions and an MLP over a window, side by side.

    Both read the input and their outputs are added. The convolutions see 7 and 3 frames, with a
    GELU between them, across the windows of :class:`~speechbrain_ext.nnet.token_mlp.TokenMLP`.

    Arguments
    ---------
    channels : int
        Channels C.
    num_tokens : int
        Frames N of a window.
    expansion : float
        The hidden layer of the MLP has ``expansion * num_tokens`` tokens.
    dropout : float
        Dropout on the output.

    Raises
    ------
    ValueError
        When ``num_tokens`` or ``expansion`` is not positive.

    Example
    -------
    >>> import torch
    >>> layer = ParallelLocalGlobalMixing(16, num_tokens=20)
    >>> layer(torch.randn(2, 50, 16)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 16]), 3492)
    """

    def __init__(
        self, channels: int, num_tokens: int = 149, expansion: float = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = _TimeConv(channels, kernel_size=7, groups=channels)
        self.conv2 = _TimeConv(channels, kernel_size=3, groups=channels)
        self.token_mlp = TokenMLP(channels, expansion, num_tokens=num_tokens)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C), zero outside the utterance, which ``mask`` (B, T, 1) marks."""
        # The first convolution reaches padded frames, which the second reads.
        local = self.conv2(zero_padding(F.gelu(self.conv1(x)), mask))
        return self.dropout(local + self.token_mlp(x, mask))


class MultiScaleGroupMixing(Mixer):
    """Mixing of channels: at two rates, then in groups over neighbouring frames, then all of them.

    :class:`~speechbrain_ext.nnet.sv_mixing.MultiScaleMixing`, a grouped convolution over 3 frames,
    GELU, and a linear layer on every frame.

    Arguments
    ---------
    channels : int
        Channels C.
    expansion : float
        The hidden layers of the MLPs at both rates have ``expansion * C`` channels.
    groups : int
        Groups of channels in all but the last layer; divides C. The authors' have 128 channels.
    dropout : float
        Dropout on the output.

    Raises
    ------
    ValueError
        When ``groups`` does not divide ``channels``.

    Example
    -------
    >>> import torch
    >>> layer = MultiScaleGroupMixing(16)
    >>> layer(torch.randn(2, 51, 16)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 51, 16]), 1056)
    """

    def __init__(
        self, channels: int, expansion: float = 4, groups: int = 8, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.multi_scale = MultiScaleMixing(channels, expansion, groups)
        self.conv = _TimeConv(channels, kernel_size=3, groups=groups)
        self.fc = nn.Linear(channels, channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C), zero outside the utterance, which ``mask`` (B, T, 1) marks."""
        # Biases and interpolation reach padded frames, which the convolution reads.
        x = zero_padding(self.multi_scale(x, mask), mask)
        return self.dropout(self.fc(F.gelu(self.conv(x))))


class _TimeConv(nn.Conv2d):
    """A convolution along time of (B, T, C), with zeros before and after.

    On images of one row: on CPUs twice as fast as PyTorch's of (B, C, T), which transposes.
    """

    def __init__(self, channels: int, kernel_size: int, groups: int) -> None:
        padding = (0, kernel_size // 2)
        super().__init__(channels, channels, (1, kernel_size), padding=padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Filter (B, T, C)."""
        return super().forward(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
