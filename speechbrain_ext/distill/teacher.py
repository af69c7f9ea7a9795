"""A teacher that training leaves alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class TeacherOutput(NamedTuple):
    """What a student may learn from: the embedding (B, D) and hidden outputs (B, T_i, C_i)."""

    embedding: Tensor
    hidden: list[Tensor]


class FrozenTeacher(nn.Module):
    """A speaker encoder without gradients, always in eval mode.

    ``Brain.fit`` puts its modules into training mode at every epoch; this one stays in eval mode
    whatever is asked. Keep it out of the Brain's ``modules`` all the same: it then stays out of the
    optimiser and of DDP too. Under AMP it runs in the precision of the step around it.

    Arguments
    ---------
    encoder : Module
        Maps ``(wavs, lengths, intermediates=True)`` to embeddings (B, 1, D) and hidden outputs.

    Example
    -------
    >>> class Encoder(nn.Module):
    ...     def forward(self, wavs, lengths=None, intermediates=False):
    ...         return nn.functional.dropout(wavs, 0.5, self.training).unsqueeze(1), []
    >>> teacher = FrozenTeacher(Encoder()).train()
    >>> torch.equal(teacher(torch.ones(2, 4)).embedding, torch.ones(2, 4))
    True
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, wavs: Tensor, lengths: Tensor | None = None) -> TeacherOutput:
        """Embed waveforms (B, samples); ``lengths`` (B,) are relative."""
        embedding, hidden = self.encoder(wavs, lengths, intermediates=True)
        return TeacherOutput(embedding.squeeze(1), hidden)
