"""Several layers' outputs, joined before pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.nnet.pieces import in_pieces


class JoinedOutputs(nn.Module):
    """The outputs of several layers side by side, a dense layer on each frame of them, and ReLU.

    The multi-layer feature aggregation of ECAPA-TDNN (Desplanques et al., Interspeech 2020): what
    earlier layers know of the speaker reaches the pooling as well.

    Arguments
    ---------
    num_inputs : int
        Outputs N.
    channels : int
        Channels C of each, and of what it gives.

    Example
    -------
    >>> JoinedOutputs(3, 8)([torch.randn(2, 50, 8)] * 3).shape
    torch.Size([2, 50, 8])
    """

    def __init__(self, num_inputs: int, channels: int) -> None:
        super().__init__()
        self.dense = nn.Linear(num_inputs * channels, channels)

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Join N tensors (B, T, C) to (B, T, C)."""
        width = outputs[0].shape[0] * (self.dense.in_features + 2 * self.dense.out_features)
        return in_pieces(self._join, *outputs, width=width, dim=1)

    def _join(self, *outputs: Tensor) -> Tensor:
        return F.relu(self.dense(torch.cat(outputs, dim=-1)))
