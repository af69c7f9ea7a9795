"""Which frames of a padded batch are speech."""

from __future__ import annotations

import torch
from torch import Tensor


def whole_lengths(lengths: Tensor, total: int) -> Tensor:
    """How many samples or frames relative lengths stand for: n / total for exactly n.

    Arguments
    ---------
    lengths : Tensor
        Relative lengths (B,), in (0, 1]. In float32 those of n and n + 1 of some 2**23 (nine
        minutes of samples) are no longer told apart: give float64.
    total : int
        Samples or frames of the padded batch.

    Returns
    -------
    Tensor
        (B,), int64.

    Example
    -------
    >>> longest = 60 * 60 * 16000
    >>> lengths = torch.tensor([longest - 1, longest]).double() / longest
    >>> (whole_lengths(lengths, longest) - longest).tolist()
    [-1, 0]
    """
    exact = torch.promote_types(lengths.dtype, torch.float32)
    return torch.round(lengths.to(exact) * total).long()


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
    frames = whole_lengths(lengths, num_frames).clamp(min=1)
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
