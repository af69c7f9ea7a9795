"""A bidirectional LSTM that padding does not change."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechbrain_ext.nnet.dropout import Dropout
from speechbrain_ext.nnet.pieces import pieces_of


class BidirectionalLSTM(nn.Module):
    """Layers of two LSTMs, one reading each utterance forwards and one backwards from its own end.

    ``torch.nn.LSTM(bidirectional=True)`` reads a padded batch backwards from the batch's end, or
    needs packed sequences, which neither ONNX nor ``torch.compile`` can follow. Here the second
    direction reads a copy of the batch in which every utterance is reversed in place.

    Arguments
    ---------
    input_size : int
        Channels of the input.
    hidden_size : int
        Channels H of one direction.
    num_layers : int
        Layers.
    dropout : float
        Dropout between layers.

    Example
    -------
    >>> hidden = BidirectionalLSTM(8, 16, num_layers=2)(torch.randn(2, 50, 8))
    >>> [layer.shape for layer in hidden]
    [torch.Size([2, 50, 32]), torch.Size([2, 50, 32])]
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        sizes = [input_size] + [2 * hidden_size] * (num_layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(n, hidden_size, batch_first=True) for n in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(n, hidden_size, batch_first=True) for n in sizes)
        self.dropout = Dropout(dropout)
        self.hidden_size = hidden_size

    def forward(self, x: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Run every layer.

        Arguments
        ---------
        x : Tensor
            Frames (B, T, C).
        mask : Tensor, optional
            True inside the utterance (B, T, 1).

        Returns
        -------
        list of Tensor
            The output (B, T, 2H) of each layer, before dropout. Padded frames hold no meaning.
        """
        outputs: list[Tensor] = []
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            pieces = pieces_of(x, width=8 * x.shape[0] * self.hidden_size, dim=1)
            if mask is None and len(pieces) > 1:
                frames = [piece for (piece,) in pieces]
                outputs.append(_both_ways(ahead, back, x, frames))  # type: ignore[arg-type]
            else:
                there, _ = ahead(x)
                again, _ = back(_reverse(x, mask))
                outputs.append(torch.cat([there, _reverse(again, mask)], dim=-1))
            x = self.dropout(outputs[-1])
        return outputs


def _both_ways(ahead: nn.LSTM, back: nn.LSTM, x: Tensor, pieces: list[Tensor]) -> Tensor:
    """Both directions (B, T, 2H) of (B, T, C), each from piece to piece with its state.

    The gates, four times as large as the output, are then those of a piece.
    """
    size = ahead.hidden_size
    y = x.new_empty(*x.shape[:2], 2 * size)
    state = None
    for piece, out in zip(pieces, y[..., :size].split(pieces[0].shape[1], 1), strict=True):
        there, state = ahead(piece, state)
        out.copy_(there)
    state = None
    outs = y[..., size:].split(pieces[0].shape[1], 1)
    for piece, out in zip(pieces[::-1], outs[::-1], strict=True):
        again, state = back(piece.flip(1), state)
        out.copy_(again.flip(1))
    return y


def _reverse(x: Tensor, mask: Tensor | None) -> Tensor:
    """Reverse each utterance (B, T, C) in time; its padding stays behind it."""
    if mask is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device)
    source = mask.sum(dim=1) - 1 - steps
    return x.gather(1, torch.where(source >= 0, source, steps).unsqueeze(-1).expand_as(x))
