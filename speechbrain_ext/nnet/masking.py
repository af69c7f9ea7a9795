"""Which frames of a padded batch are speech."""

from __future__ import annotations

import torch
from torch import Tensor


def frame_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """Mark the frames that belong to each utterance.

    Arguments
    ---------
    lengths : Tensor
        Relative lengths (B,), in (0, 1]; 1 is ``num_frames``.
    num_frames : int
        Frames T of the padded batch.

    Returns
    -------
    Tensor
        Boolean (B, T, 1), true inside the utterance. The length in frames is rounded to the nearest
        whole number, so that n / T stands for exactly n frames.

    Example
    -------
    >>> frame_mask(torch.tensor([1.0, 0.5]), 4).squeeze(-1).int()
    tensor([[1, 1, 1, 1],
            [1, 1, 0, 0]], dtype=torch.int32)
    """
    frames = torch.round(lengths.float() * num_frames).clamp(min=1)
    steps = torch.arange(num_frames, device=lengths.device)
    return (steps < frames[:, None]).unsqueeze(-1)


def zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set padded frames to zero, as if the utterance stood alone before a zero-padded convolution.

    Arguments
    ---------
    x : Tensor
        Frames (B, T, C).
    mask : Tensor or None
        From :func:`frame_mask`; None when nothing is padded.

    Returns
    -------
    Tensor
        Frames (B, T, C).

    Example
    -------
    >>> zero_padding(torch.ones(1, 2, 1), torch.tensor([[[True], [False]]])).flatten()
    tensor([1., 0.])
    """
    return x if mask is None else x * mask.to(x.dtype)
