"""Dropout that costs no more than what it is applied to."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Dropout):
    """``torch.nn.Dropout`` with 16 random bits an element on CPUs.

    PyTorch draws a whole random number for every element there, one after another; in a mixer block
    that takes longer than the matrix products. The probability is exact to 1 / 65536.

    Arguments
    ---------
    p : float
        Probability of an element to be zeroed.

    Example
    -------
    >>> layer = Dropout(0.1)
    >>> y = layer(torch.ones(100_000))
    >>> 0.08 < float((y == 0).float().mean()) < 0.12, round(float(y.max()), 4)
    (True, 1.1111)
    >>> torch.equal(layer.eval()(y), y)
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements of ``x``, of any shape, and scale the others, in training mode."""
        fast = x.device.type == "cpu" and not torch.compiler.is_compiling()
        if not (fast and self.training and self.p > 0):
            return F.dropout(x, self.p, self.training)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = torch.empty(x.numel(), dtype=x.dtype)
        # Compared into numbers at once: a mask of booleans would have to be converted.
        torch.ge(words.view(torch.int16)[: x.numel()], round(65536 * self.p) - 32768, out=kept)
        return x * kept.mul_(1 / (1 - self.p)).view(x.shape)
