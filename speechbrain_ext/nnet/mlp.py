"""Two layers with GELU between them, as every mixer here has them somewhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.graphs import makes_graph
from speechbrain_ext.nnet.pieces import in_pieces


def two_layers(
    first: Callable[[Tensor], Tensor],
    second: Callable[[Tensor], Tensor],
    dropout: nn.Module,
    x: Tensor,
    width: int,
) -> Tensor:
    """``dropout(second(dropout(gelu(first(x)))))``.

    Where no gradient is wanted, rows of ``x`` go through both layers some at a time: the hidden
    layer, the largest of all, needs the same memory for any number of rows and stays in a CPU's
    cache, which on long utterances and in batches saves a third of an SV-Mixer block's time.

    Arguments
    ---------
    first, second : callable
        The layers; they map rows apart. What ``first`` gives is its own, and may be overwritten.
    dropout : Module
        After each of them.
    x : Tensor
        Rows, (N, ...).
    width : int
        Numbers of the hidden layer for a row.

    Returns
    -------
    Tensor
        Rows, (N, ...).

    Example
    -------
    >>> first, second, x = nn.Linear(8, 32), nn.Linear(32, 8), torch.randn(50, 8)
    >>> whole = two_layers(first, second, nn.Dropout(0.0), x, width=32)
    >>> with torch.no_grad():
    ...     torch.allclose(two_layers(first, second, nn.Dropout(0.0), x, width=32), whole)
    True
    """
    if makes_graph() or torch.is_grad_enabled() or dropout.training:
        return dropout(second(dropout(F.gelu(first(x)))))
    gelu_ = torch.ops.aten.gelu_
    return in_pieces(lambda piece: second(gelu_(first(piece))), x, width=width)
