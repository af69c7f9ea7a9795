"""A narrow passage for embeddings."""

from __future__ import annotations

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Two linear layers, down and up again: embeddings of D numbers that lie in fewer dimensions.

    With 128 of 512 dimensions it is that of the documents (docs/sources.md: 003, Architecture
    enhancements B).

    Arguments
    ---------
    size : int
        Embedding size D.
    bottleneck_size : int
        Dimensions that are left.

    Raises
    ------
    ValueError
        When ``bottleneck_size`` is not between 1 and D.

    Example
    -------
    >>> import torch
    >>> layer = Bottleneck(512, bottleneck_size=128)
    >>> layer(torch.randn(2, 512)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 512]), 131712)
    """

    def __init__(self, size: int, bottleneck_size: int) -> None:
        super().__init__()
        if not 1 <= bottleneck_size <= size:
            raise ValueError(
                f"bottleneck_size={bottleneck_size} must be between 1 and the embedding size {size}"
            )
        self.down = nn.Linear(size, bottleneck_size)
        self.up = nn.Linear(bottleneck_size, size)

    def forward(self, embedding: Tensor) -> Tensor:
        """Map (B, D) to (B, D)."""
        return self.up(self.down(embedding))
