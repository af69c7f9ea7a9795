"""The simplest network that makes an embedding of frames."""

from __future__ import annotations

from torch import Tensor, nn

from speechbrain_ext.nnet.masking import frame_mask, zero_padding


class LinearBackEnd(nn.Module):
    """The mean of an utterance's frames, through one linear layer.

    Arguments
    ---------
    input_size : int
        Features F.
    lin_neurons : int
        Embedding size D.

    Attributes
    ----------
    embedding_size : int
        D.

    Example
    -------
    >>> import torch
    >>> LinearBackEnd(32, lin_neurons=8)(torch.randn(2, 50, 32), torch.tensor([1.0, 0.6])).shape
    torch.Size([2, 1, 8])
    """

    def __init__(self, input_size: int, lin_neurons: int = 192) -> None:
        super().__init__()
        self.embedding_size = lin_neurons
        self.fc = nn.Linear(input_size, lin_neurons)

    def forward(self, feats: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.BackEnd`."""
        if lengths is None:
            return self.fc(feats.mean(dim=1, keepdim=True))
        mask = frame_mask(lengths, feats.shape[1])
        total = zero_padding(feats, mask).sum(dim=1, keepdim=True)
        return self.fc(total / mask.sum(dim=1, keepdim=True))
