"""Self-attention, what the attention-free mixers are compared with."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.nnet.dropout import Dropout


class SelfAttention(Mixer):
    """Multi-head self-attention over the frames of the utterance, with no positional encoding.

    Vaswani et al., "Attention is all you need", NeurIPS 2017. Four dense layers, 4C² + 4C
    parameters. The products of queries with keys and of weights with values have none, and their
    operations grow with T²: 2T²C multiply-accumulates.

    Arguments
    ---------
    channels : int
        Channels C.
    num_heads : int
        Heads, a divisor of C. 16 of 64 channels are WavLM-Large's.
    dropout : float
        Dropout on the attention's weights and on the output.

    Raises
    ------
    ValueError
        When ``num_heads`` does not divide ``channels``.

    Example
    -------
    >>> import torch
    >>> layer = SelfAttention(8, num_heads=2)
    >>> layer(torch.randn(2, 50, 8)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 8]), 288)
    """

    def __init__(self, channels: int, num_heads: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"num_heads={num_heads} must divide the channels {channels}")
        self.num_heads = num_heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); ``mask`` (B, T, 1) is true inside the utterance, in one frame at least."""
        attended = F.scaled_dot_product_attention(
            self._heads(self.query(x)),
            self._heads(self.key(x)),
            self._heads(self.value(x)),
            # By key alone: a padded query sees the utterance too and stays finite.
            attn_mask=None if mask is None else mask.transpose(1, 2).unsqueeze(1),
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return self.dropout(self.output(attended.transpose(1, 2).flatten(2)))

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, C) as (B, heads, T, C / heads)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
