"""Several identity-enhanced convolutions side by side, which are one filter once trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from speechbrain.utils.autocast import fwd_default_precision
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.normalization import FrameBatchNorm


class ParallelIDConv(nn.Module):
    """``x`` plus the sum of ``BatchNorm(depthwise convolution over time)`` of several kernels.

    With one kernel of 3 frames it is :class:`~speechbrain_ext.nnet.mixing.IDConv`. In training each
    kernel has a normalisation of its own; in eval mode all of them and the identity are one filter
    as long as the longest, so that more kernels cost nothing more. Ding et al., "RepVGG: Making
    VGG-style ConvNets Great Again", CVPR 2021, and for kernels that differ in length Ding et al.,
    "Scaling Up Your Kernels to 31x31", CVPR 2022.

    Arguments
    ---------
    channels : int
        Channels C.
    kernel_sizes : sequence of int
        Frames of each kernel, odd numbers.

    Raises
    ------
    ValueError
        When there is no kernel, or one is even or not positive.

    Example
    -------
    >>> layer = ParallelIDConv(8)
    >>> layer(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    >>> kernel, bias = layer.merged()
    >>> kernel.shape, bias.shape
    (torch.Size([8, 1, 15]), torch.Size([8]))
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int] = (3, 7, 15)) -> None:
        super().__init__()
        if not kernel_sizes or not all(size > 0 and size % 2 for size in kernel_sizes):
            raise ValueError(f"kernel_sizes={list(kernel_sizes)} must be odd and positive")
        self.channels, self.kernel_sizes = channels, tuple(kernel_sizes)
        self.reach = max(kernel_sizes) // 2  # frames before and after a frame that it depends on
        self.weights = nn.ParameterList(torch.empty(channels, 1, size) for size in kernel_sizes)
        for size, weight in zip(kernel_sizes, self.weights, strict=True):
            nn.init.uniform_(weight, -(size**-0.5), size**-0.5)
        norms = [FrameBatchNorm(channels) for _ in kernel_sizes]
        for norm in norms:
            # What they add together starts as large as what one would add.
            nn.init.constant_(norm.norm.weight, len(norms) ** -0.5)
        self.norms = nn.ModuleList(norms)

    # What it adds to the identity is small, and in half precision would be rounded away.
    @fwd_default_precision(cast_inputs=torch.float32)
    def forward(self, x: Tensor) -> Tensor:
        """Filter (B, T, C) to the same in float32; frames outside the utterance must be zero."""
        if not self.training:
            return _filter(x, *self.merged())
        y = x
        for weight, norm in zip(self.weights, self.norms, strict=True):
            y = y + norm(_filter(x, weight))
        return y

    def merged(self) -> tuple[Tensor, Tensor]:
        """The one convolution that this layer is in eval mode.

        Returns
        -------
        (Tensor, Tensor)
            Kernel (C, 1, K) and bias (C,), those of ``nn.Conv1d(C, C, K, groups=C)``.
        """
        longest = max(self.kernel_sizes)
        identity = torch.ones_like(self.weights[0][..., :1])
        kernel = F.pad(identity, [longest // 2] * 2)
        bias = torch.zeros_like(identity.flatten())
        for size, weight, norm in zip(self.kernel_sizes, self.weights, self.norms, strict=True):
            scale, offset = norm.affine()  # type: ignore[operator]
            kernel = kernel + F.pad(weight * scale[:, None, None], [(longest - size) // 2] * 2)
            bias = bias + offset
        # Said in numbers: the exporter to ONNX loses the shape of what is padded.
        return kernel.reshape(self.channels, 1, longest), bias


def _filter(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """A depthwise convolution of (B, T, C) with kernels (C, 1, K)."""
    # As an image of one row, whose channels PyTorch may keep last: nothing is copied.
    image = x.transpose(1, 2).unsqueeze(2)
    y = F.conv2d(image, kernel.unsqueeze(2), bias, padding="same", groups=x.shape[2])
    return y.squeeze(2).transpose(1, 2)
