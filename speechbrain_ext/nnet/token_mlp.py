"""Token mixing along time, as in MLP-Mixer, for inputs of any length."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from speechbrain_ext.interfaces import Mixer
from speechbrain_ext.nnet.dropout import Dropout
from speechbrain_ext.nnet.graphs import makes_graph
from speechbrain_ext.nnet.mlp import two_layers


class TokenMLP(Mixer):
    """One MLP along time for all channels, on windows of ``num_tokens`` frames.

    The token mixing of Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", NeurIPS
    2021, exactly so where an utterance has ``num_tokens`` frames. In a longer one, windows follow
    each other from frame 0 on, and the last ends with the utterance, over frames that the one
    before it has read too. A shorter one is repeated until it fills its window. So no window ever
    holds padding, as none does when training on crops of one length.

    Arguments
    ---------
    channels : int
        Channels C; the weights do not depend on it.
    expansion : float
        The hidden layer has ``expansion * num_tokens`` tokens, unless ``hidden_tokens`` is given.
    groups : int
        Not used: all channels share the MLP.
    dropout : float
        Dropout after each layer.
    num_tokens : int
        Frames N of a window. By default those of 3 s in WavLM, HuBERT and wav2vec 2.0.
    hidden_tokens : int, optional
        Tokens of the hidden layer.

    Raises
    ------
    ValueError
        When ``num_tokens`` or ``hidden_tokens`` is not positive.

    Example
    -------
    >>> layer = TokenMLP(8, expansion=3, num_tokens=20)
    >>> layer(torch.randn(2, 50, 8)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 8]), 2480)
    """

    def __init__(
        self,
        channels: int,
        expansion: float = 4,
        groups: int = 1,
        dropout: float = 0.0,
        num_tokens: int = 149,
        hidden_tokens: int | None = None,
    ) -> None:
        super().__init__()
        hidden = round(expansion * num_tokens) if hidden_tokens is None else hidden_tokens
        if num_tokens < 1 or hidden < 1:
            raise ValueError(f"num_tokens={num_tokens} and hidden_tokens={hidden} must be positive")
        self.num_tokens = num_tokens
        self.fc1 = nn.Linear(num_tokens, hidden)
        self.fc2 = nn.Linear(hidden, num_tokens)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); ``mask`` (B, T, 1) is true inside the utterance."""
        if mask is None and not makes_graph() and x.shape[1] == self.num_tokens:
            return self._mix(x)
        inside, back = _windows(x, mask, self.num_tokens)
        windows = take_frames(x, inside).reshape(-1, self.num_tokens, x.shape[2])
        return take_frames(self._mix(windows).reshape(x.shape[0], -1, x.shape[2]), back)

    def _mix(self, windows: Tensor) -> Tensor:
        """Map (windows, N, C), every one alone."""
        first, second = partial(_along_time, self.fc1), partial(_along_time, self.fc2)
        width = self.fc1.out_features * windows.shape[2]
        return two_layers(first, second, self.dropout, windows, width)


def _windows(x: Tensor, mask: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
    """The frames (B, K N) that K windows hold, and where among them those of x are (B, T)."""
    steps = torch.arange(x.shape[1], device=x.device)
    if mask is None:
        frames = torch.full((1, 1), x.shape[1], dtype=torch.long, device=x.device)
    else:
        frames = mask.squeeze(-1).sum(dim=1, keepdim=True)
    # The last window ends with the utterance; an utterance shorter than a window is repeated.
    starts = torch.minimum(steps[::size], (frames - size).clamp(min=0))
    inside = (starts.unsqueeze(-1) + torch.arange(size, device=x.device)) % frames.unsqueeze(-1)
    window = steps // size
    # Frames outside the utterance get some frame's output: nobody looks at it.
    position = (steps - starts.index_select(1, window)).clamp(max=size - 1)
    return inside.flatten(1), size * window + position


def take_frames(x: Tensor, index: Tensor) -> Tensor:
    """The frames of each utterance at the places that ``index`` lists.

    Arguments
    ---------
    x : Tensor
        Frames (B, T, C).
    index : Tensor
        Places (B, J), or (1, J) for all utterances alike, from 0 to T - 1.

    Returns
    -------
    Tensor
        Frames (B, J, C).

    Example
    -------
    >>> take_frames(torch.tensor([[[5.0], [6.0]]]), torch.tensor([[1, 1, 0]])).flatten()
    tensor([6., 6., 5.])
    """
    first = x.shape[1] * torch.arange(x.shape[0], device=x.device).unsqueeze(-1)
    # Whole rows of one table: some times faster than ``gather``.
    frames = x.flatten(0, 1).index_select(0, (first + index).flatten())
    return frames.reshape(x.shape[0], -1, x.shape[2])


def _along_time(layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer`` on the second axis of (B, N, C): the weights on the left, nothing transposed."""
    weight = layer.weight.expand(x.shape[0], -1, -1)
    return torch.baddbmm(layer.bias.unsqueeze(-1), weight, x)
