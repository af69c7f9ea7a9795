"""A teacher that training leaves alone."""

from __future__ import annotations

import torch
from torch import Tensor

from speechbrain_ext.interfaces import HiddenOutputs, Teacher, TeacherOutput
from speechbrain_ext.lobes.encoders import SpeakerEncoder


class FrozenTeacher(Teacher):
    """A speaker encoder without gradients, always in eval mode.

    Under AMP it runs in the precision of the step around it.

    Arguments
    ---------
    encoder : SpeakerEncoder
        Maps ``(wavs, lengths, intermediates=True)`` to embeddings (B, 1, D) and hidden outputs,
        which its ``layers`` name.

    Example
    -------
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> encoder = SpeakerEncoder(LogMel(), UtteranceNorm(), MLPMixer(channels=16, num_blocks=2))
    >>> teacher = FrozenTeacher(encoder).train()
    >>> teacher.training, teacher.layers
    (False, {'block1': 16, 'block2': 16})
    >>> output = teacher(torch.randn(2, 16000))
    >>> output.embedding.shape, output.hidden["block2"].shape
    (torch.Size([2, 512]), torch.Size([2, 101, 16]))
    """

    def __init__(self, encoder: SpeakerEncoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.layers = encoder.layers
        self.embedding_size = encoder.embedding_size
        self.embeds_speakers = encoder.embeds_speakers
        self.num_parameters = encoder.num_parameters
        self.eval()

    @torch.no_grad()
    def forward(
        self,
        wavs: Tensor,
        lengths: Tensor | None = None,
        ids: list[str] | None = None,
        starts: list[int] | None = None,
    ) -> TeacherOutput:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Teacher`."""
        embedding, hidden = self.encoder(wavs, lengths, intermediates=True)
        return TeacherOutput(
            embedding.squeeze(1), HiddenOutputs(zip(self.layers, hidden, strict=True))
        )

    @torch.no_grad()
    def embed(self, wavs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Keep the contract of :class:`~speechbrain_ext.interfaces.Teacher`."""
        return self.encoder(wavs, lengths).squeeze(1)
