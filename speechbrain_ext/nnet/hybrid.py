"""Recurrence in a mixer: an LSTM inside its blocks, or before them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from speechbrain_ext.nnet.mixing import MixerBlock


class ForwardLSTM(nn.Module):
    """One LSTM that reads frames in their order, so that padding after them changes nothing.

    Arguments
    ---------
    input_size : int
        Channels of the input.
    hidden_size : int
        Channels H of the output.

    Attributes
    ----------
    output_size : int
        H.

    Example
    -------
    >>> import torch
    >>> ForwardLSTM(8, hidden_size=16)(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 16])
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.output_size = hidden_size
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Read (B, T, C); gives (B, T, H)."""
        return self.lstm(x)[0]


class LSTMMixerBlock(MixerBlock):
    """A mixer block with an LSTM after its token mixing, inside the residual branch.

    What the MLPs mix in parallel, the LSTM then reads in sequence (docs/sources.md: 001, Approach
    P4A).

    Arguments
    ---------
    channels : int
        Channels C, of the LSTM too.
    token_mixing, channel_mixing : callable
        Given ``channels``, makes the layer that mixes (B, T, C).

    Example
    -------
    >>> import torch
    >>> from functools import partial
    >>> from speechbrain_ext.nnet.mixing import ChannelMixing, PointwiseTokenMixing
    >>> block = LSTMMixerBlock(
    ...     8,
    ...     token_mixing=partial(PointwiseTokenMixing, expansion=3, groups=4),
    ...     channel_mixing=partial(ChannelMixing, expansion=3),
    ... )
    >>> block(torch.randn(2, 50, 8)).shape
    torch.Size([2, 50, 8])
    """

    reach = None  # of all frames before

    def __init__(
        self,
        channels: int,
        token_mixing: Callable[[int], nn.Module],
        channel_mixing: Callable[[int], nn.Module],
    ) -> None:
        super().__init__(channels, token_mixing, channel_mixing)
        self.lstm = ForwardLSTM(channels, channels)

    def mix_tokens(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What is added to (B, T, C) after its first norm ``x``."""
        return self.lstm(super().mix_tokens(x, mask))
