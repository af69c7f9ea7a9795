"""A power spectrum as one convolution, for engines that have no fast one.

A frame, what is done to it and the Fourier transform are linear, so that one kernel does all of it.
ONNX has no complex numbers, and its own transform is slow in most engines.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW = 400  # samples of a frame, 25 ms


def fourier_kernel(frames: Tensor, n_fft: int) -> Tensor:
    """The kernel of a spectrum, for :func:`power_by_convolution`.

    Arguments
    ---------
    frames : Tensor
        (N, N): what is made of a frame that has one sample of N alone, before the transform, such
        as ``torch.diag(window)``.
    n_fft : int
        Points of the transform, N or more.

    Returns
    -------
    Tensor
        (2 (n_fft // 2 + 1), 1, N), float32: the real parts, then the imaginary ones.

    Example
    -------
    >>> fourier_kernel(torch.eye(400), 512).shape
    torch.Size([514, 1, 400])
    """
    spectrum = torch.view_as_real(torch.fft.rfft(frames.double(), n=n_fft))  # of each sample
    return spectrum.permute(2, 1, 0).flatten(0, 1).unsqueeze(1).float()


def power_by_convolution(wavs: Tensor, kernel: Tensor, hop: int) -> Tensor:
    """The power spectrum of all whole frames of waveforms.

    Arguments
    ---------
    wavs : Tensor
        Waveforms (B, samples).
    kernel : Tensor
        Of :func:`fourier_kernel`.
    hop : int
        Samples from one frame to the next.

    Returns
    -------
    Tensor
        (B, T, n_fft // 2 + 1).

    Example
    -------
    >>> wavs, window = torch.randn(2, 1600), torch.hann_window(400)
    >>> power = power_by_convolution(wavs, fourier_kernel(torch.diag(window), 512), 160)
    >>> expected = torch.fft.rfft(wavs.unfold(1, 400, 160) * window, n=512).abs().square()
    >>> torch.allclose(power, expected, rtol=1e-3, atol=1e-3)
    True
    """
    parts = F.conv1d(wavs.unsqueeze(1), kernel, stride=hop).square()
    real, imaginary = parts.transpose(1, 2).chunk(2, dim=2)
    return real + imaginary
