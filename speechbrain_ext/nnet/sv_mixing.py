"""The two mixers that SV-Mixer brings: local-global mixing and multi-scale mixing.

From arXiv 2509.14136, which describes them and their order in a block, LGM, MSM, GCM; the last is
:class:`~speechbrain_ext.nnet.mixing.GroupedMLP`, and the block
:class:`~speechbrain_ext.nnet.residual.ResidualBlock` of the three, in which norms and residual
connections are placed as in MLP-Mixer. With the convolution and every channel MLP in 8 groups, the
block has the published size at 1024 channels and 149 frames: 3.75 M parameters and 0.63 G
multiply-accumulates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.nnet.mixing import GroupedMLP
from speechbrain_ext.nnet.token_mlp import TokenMLP, take_frames


class LocalGlobalMixing(Mixer):
    """Mixing along time: a convolution over neighbours, then an MLP over a window.

    LGM of SV-Mixer (arXiv 2509.14136): ``y + TokenMLP(y)`` of ``y = convolution(x)``. The
    windows of any length are those of :class:`~speechbrain_ext.nnet.token_mlp.TokenMLP`; the
    convolution sees across them, and zeros before and after the utterance.

    Arguments
    ---------
    channels : int
        Channels C.
    num_tokens : int
        Frames N of a window.
    expansion : float
        The hidden layer of the MLP has ``expansion * num_tokens`` tokens.
    groups : int
        Groups of channels in the convolution; divides C.
    kernel_size : int
        Frames that the convolution reads, odd.
    dropout : float
        Dropout after each layer of the MLP.

    Raises
    ------
    ValueError
        When ``groups`` does not divide ``channels``, or ``kernel_size`` is even or not positive.

    Example
    -------
    >>> layer = LocalGlobalMixing(16, num_tokens=20)
    >>> layer(torch.randn(2, 50, 16)).shape
    torch.Size([2, 50, 16])
    """

    def __init__(
        self,
        channels: int,
        num_tokens: int = 149,
        expansion: float = 4,
        groups: int = 8,
        kernel_size: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"groups={groups} must divide the channels {channels}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd and positive")
        self.conv = nn.Conv2d(
            channels, channels, (1, kernel_size), padding=(0, kernel_size // 2), groups=groups
        )
        self.token_mlp = TokenMLP(channels, expansion, dropout=dropout, num_tokens=num_tokens)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C), zero outside the utterance, which ``mask`` (B, T, 1) marks."""
        x = _as_frames(self.conv(_as_image(x)))
        # What the convolution leaves outside the utterance is in no window.
        return x + self.token_mlp(x, mask)


class MultiScaleMixing(Mixer):
    """Mixing of channels at two rates: an MLP on every frame, and one on averages of two.

    MSM of SV-Mixer (arXiv 2509.14136): the second MLP's output returns to the full rate by linear
    interpolation and is added to the first's. An odd last frame stands for a pair.

    Arguments
    ---------
    channels : int
        Channels C.
    expansion : float
        The hidden layers have ``expansion * C`` channels.
    groups : int
        Groups of channels in both MLPs; divides C.
    dropout : float
        Dropout after each layer.

    Raises
    ------
    ValueError
        When ``groups`` does not divide ``channels``.

    Example
    -------
    >>> layer = MultiScaleMixing(16)
    >>> layer(torch.randn(2, 51, 16)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 51, 16]), 672)
    """

    def __init__(
        self, channels: int, expansion: float = 4, groups: int = 8, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.full_rate = GroupedMLP(channels, expansion, groups, dropout)
        self.half_rate = GroupedMLP(channels, expansion, groups, dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C), zero outside the utterance, which ``mask`` (B, T, 1) marks."""
        slow = double_rate(self.half_rate(halve_rate(x, mask)), mask)
        return self.full_rate(x) + slow[:, : x.shape[1]]


def halve_rate(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The averages of every two frames of an utterance; an odd last frame is its own.

    Arguments
    ---------
    x : Tensor
        Frames (B, T, C), zero outside the utterance.
    mask : Tensor, optional
        (B, T, 1), true inside the utterance; all of it without.

    Returns
    -------
    Tensor
        Frames (B, ceil(T / 2), C).

    Example
    -------
    >>> halve_rate(torch.tensor([[[1.0], [2.0], [6.0]]])).flatten()
    tensor([1.5000, 6.0000])
    """
    pairs = _average_of_two(x)
    if mask is None:
        return pairs
    # Half of a pair may lie outside, where x is zero.
    return pairs / _average_of_two(mask.to(x.dtype)).clamp(min=0.5)


def double_rate(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Linear interpolation to twice as many frames, the inverse in time of :func:`halve_rate`.

    That of ``torch.nn.functional.interpolate(scale_factor=2, mode="linear")`` along each utterance,
    which is held constant before its first frame and after its last.

    Arguments
    ---------
    x : Tensor
        Frames (B, ceil(T / 2), C).
    mask : Tensor, optional
        (B, T, 1), as given to :func:`halve_rate`.

    Returns
    -------
    Tensor
        Frames (B, 2 ceil(T / 2), C).

    Example
    -------
    >>> double_rate(torch.tensor([[[0.0], [4.0]]])).flatten()
    tensor([0., 1., 3., 4.])
    """
    if mask is not None:
        steps = torch.arange(x.shape[1], device=x.device)
        last = (mask.squeeze(-1).sum(dim=1, keepdim=True) - 1) // 2
        x = take_frames(x, torch.minimum(steps, last))
    image = F.interpolate(_as_image(x), scale_factor=(1.0, 2.0), mode="bilinear")
    return _as_frames(image)


def _average_of_two(x: Tensor) -> Tensor:
    """(B, T, C) to (B, ceil(T / 2), C)."""
    image = F.avg_pool2d(_as_image(x), (1, 2), ceil_mode=True, count_include_pad=False)
    return _as_frames(image)


def _as_image(x: Tensor) -> Tensor:
    """(B, T, C) as an image (B, C, 1, T), without a copy.

    PyTorch's kernels for images work channels last; those for (B, C, T) transpose, and take up to
    twice the time.
    """
    return x.transpose(1, 2).unsqueeze(2)


def _as_frames(image: Tensor) -> Tensor:
    """And back."""
    return image.squeeze(2).transpose(1, 2)
