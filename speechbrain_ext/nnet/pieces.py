"""Long inputs some rows at a time: what is made on the way is that of a piece, for an hour too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from speechbrain_ext.nnet.graphs import makes_graph

# Numbers that a piece makes on its way on a CPU: 8 MB, which stay in its cache.
PIECE = 2_000_000
# Accelerators are fast at large pieces: 800 MB.
_ACCELERATED = 100


def pieces_of(*tensors: Tensor, width: int, dim: int = 0) -> list[tuple[Tensor, ...]]:
    """Tensors of equally many rows, cut at the same rows where no gradient is wanted.

    Arguments
    ---------
    *tensors : Tensor
        With their rows along ``dim``.
    width : int
        Numbers that a row makes on its way.
    dim : int
        The axis of the rows.

    Returns
    -------
    list of tuple of Tensor
        Views of the tensors, one of each in every piece; the tensors as they are in one piece where
        gradients are wanted or a graph is made.

    Example
    -------
    >>> with torch.no_grad():
    ...     [len(piece) for (piece,) in pieces_of(torch.zeros(5), width=PIECE // 2)]
    [2, 2, 1]
    """
    if makes_graph() or torch.is_grad_enabled():
        return [tensors]
    rows = rows_of_piece(tensors[0], width)
    return list(zip(*(tensor.split(rows, dim) for tensor in tensors), strict=True))


def rows_of_piece(x: Tensor, width: int) -> int:
    """Rows of a piece of a tensor, each of which makes ``width`` numbers on its way.

    Example
    -------
    >>> rows_of_piece(torch.zeros(5), width=PIECE // 2)
    2
    """
    numbers = PIECE if x.device.type == "cpu" else PIECE * _ACCELERATED
    return max(1, numbers // width)


def frames_in_pieces(
    function: Callable[[Tensor], Tensor], wavs: Tensor, window: int, hop: int
) -> Tensor:
    """``function(wavs)``, features of whole frames of waveforms, some frames at a time.

    Frames overlap, and what is made of them on the way is some times as large as the features.

    Arguments
    ---------
    function : callable
        Maps waveforms (B, samples) to the features (B, T, F) of all their whole frames.
    wavs : Tensor
        Waveforms (B, samples), of one frame at least.
    window, hop : int
        Samples of a frame, and from one to the next.

    Returns
    -------
    Tensor
        Features (B, T, F).

    Example
    -------
    >>> sums = lambda wavs: wavs.unfold(1, 4, 2).sum(2, keepdim=True)
    >>> frames_in_pieces(sums, torch.ones(2, 10), window=4, hop=2).shape
    torch.Size([2, 4, 1])
    """
    frames = (wavs.shape[1] - window) // hop + 1
    # The frame, what is done to it, its complex spectrum and its powers.
    rows = rows_of_piece(wavs, width=5 * window * len(wavs))
    if frames <= rows:
        return function(wavs)
    whole = wavs.new_empty(0)
    for first in range(0, frames, rows):
        last = min(first + rows, frames)
        part = function(wavs[:, hop * first : hop * (last - 1) + window])
        if first == 0:
            whole = part.new_empty(len(part), frames, part.shape[2])
        whole[:, first:last] = part
    return whole


def in_pieces(
    function: Callable[..., Tensor], *tensors: Tensor, width: int, dim: int = 0
) -> Tensor:
    """``function(*tensors)`` by the pieces of :func:`pieces_of`.

    Arguments
    ---------
    function : callable
        Maps rows apart, to as many rows.
    *tensors : Tensor
        With their rows along ``dim``.
    width : int
        Numbers that a row makes on its way.
    dim : int
        The axis of the rows, here and in what ``function`` gives.

    Returns
    -------
    Tensor
        What ``function`` gives.

    Example
    -------
    >>> with torch.no_grad():
    ...     in_pieces(torch.add, torch.ones(3), torch.ones(3), width=PIECE)
    tensor([2., 2., 2.])
    """
    pieces = pieces_of(*tensors, width=width, dim=dim)
    y = function(*pieces[0])
    if len(pieces) == 1:
        return y
    # Written where it belongs: a list of pieces would be as large as what is made of it.
    shape = list(y.shape)
    shape[dim] = tensors[0].shape[dim]
    places = y.new_empty(shape)
    whole = places.split(y.shape[dim], dim)
    whole[0].copy_(y)
    for piece, place in zip(pieces[1:], whole[1:], strict=True):
        place.copy_(function(*piece))
    return places
