"""Networks that do not know of padding, on padded batches: a pass for each length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def each_length(
    counts: Tensor, embed: Callable[[Tensor, int], Sequence[Tensor]]
) -> tuple[Tensor, ...]:
    """Embed the utterances of every length together, and put what comes out in their order again.

    Arguments
    ---------
    counts : Tensor
        Samples or frames (B,) of each utterance.
    embed : callable
        Given the places (b,) in the batch of the utterances of one length and that length, gives
        tensors whose first axis has b rows; as many tensors for every length, of the same sizes.

    Returns
    -------
    tuple of Tensor
        Those tensors with B rows.

    Example
    -------
    >>> x = torch.arange(6.0).view(2, 3)
    >>> each_length(torch.tensor([3, 2]), lambda rows, count: [x[rows, :count].sum(dim=1)])
    (tensor([3., 7.]),)
    """
    lengths = counts.unique().tolist()
    rows = [(counts == length).nonzero().squeeze(1) for length in lengths]
    parts = [embed(here, length) for here, length in zip(rows, lengths, strict=True)]
    order = torch.cat(rows).argsort()
    return tuple(torch.cat(part)[order] for part in zip(*parts, strict=True))
