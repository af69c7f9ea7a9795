"""The cycle layer of CycleMLP along time: a dense layer whose inputs come from several frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speechbrain_ext.interfaces import Mixer


class CycleLinear(Mixer):
    """A dense layer in which channel i reads the frame at an offset that cycles over the channels.

    Chen et al., "CycleMLP: A MLP-like Architecture for Dense Prediction", ICLR 2022, along one
    axis: the offset of channel i is (i + S // 2) mod S - S // 2, so 0, 1, -1, 0, 1, -1, … for
    S = 3. It costs what a dense layer does and needs no fixed number of frames. Frames before the
    first and after the utterance's last read as zeros.

    Arguments
    ---------
    channels : int
        Channels C.
    cycle : int
        Frames S that the channels' offsets cycle through.

    Raises
    ------
    ValueError
        When ``cycle`` is not positive.

    Example
    -------
    >>> layer = CycleLinear(4, cycle=3)
    >>> layer.offsets
    tensor([ 0,  1, -1,  0])
    >>> layer(torch.randn(2, 50, 4)).shape, sum(p.numel() for p in layer.parameters())
    (torch.Size([2, 50, 4]), 20)
    """

    offsets: Tensor

    def __init__(self, channels: int, cycle: int = 3) -> None:
        super().__init__()
        if cycle < 1:
            raise ValueError(f"cycle={cycle} must be positive")
        self.reach = cycle // 2
        offsets = (torch.arange(channels) + self.reach) % cycle - self.reach
        self.register_buffer("offsets", offsets, persistent=False)
        self.steps = sorted({int(offset) for offset in offsets} - {0})
        self.linear = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix (B, T, C); frames outside the utterance must be zero, so ``mask`` is not used."""
        padded = F.pad(x, (0, 0, self.reach, self.reach))
        read = x
        for step in self.steps:
            moved = padded[:, self.reach + step :][:, : x.shape[1]]
            read = torch.where(self.offsets == step, moved, read)
        return self.linear(read)
