"""A stand-in for modules that an interface asks for and a model does not need."""

from __future__ import annotations

from torch import Tensor, nn


class PassThrough(nn.Module):
    """Give the first input back; SpeechBrain's normalisations are called with lengths besides.

    Example
    -------
    >>> import torch
    >>> PassThrough()(torch.ones(2), torch.tensor([1.0, 0.5]))
    tensor([1., 1.])
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return ``x``."""
        return x
