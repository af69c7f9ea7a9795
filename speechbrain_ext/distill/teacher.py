"""A teacher that training leaves alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechbrain_ext.distill.outputs import Layers, TeacherOutput


class FrozenTeacher(nn.Module):
    """A speaker encoder without gradients, always in eval mode.

    ``Brain.fit`` puts its modules into training mode at every epoch; this one stays in eval mode
    whatever is asked. Keep it out of the Brain's ``modules`` all the same: it then stays out of the
    optimiser and of DDP too. Under AMP it runs in the precision of the step around it.

    Arguments
    ---------
    encoder : SpeakerEncoder
        Maps ``(wavs, lengths, intermediates=True)`` to embeddings (B, 1, D) and hidden outputs,
        which its ``layers`` name.

    Example
    -------
    >>> from speechbrain_ext.lobes.encoders import SpeakerEncoder
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

    #: Whether the output follows from the crop it is given.
    hears = True

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.layers: dict[str, int] = encoder.layers  # type: ignore[assignment]
        self.embedding_size: int = encoder.embedding_size  # type: ignore[assignment]
        self.eval()

    @property
    def num_parameters(self) -> int:
        """Parameters of the embedding model."""
        return sum(p.numel() for p in self.encoder.embedding_model.parameters())  # type: ignore[union-attr, misc]

    def prepare(self, manifest: str) -> None:
        """Get ready for the utterances of a training manifest: here, nothing."""

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, wavs: Tensor, lengths: Tensor | None = None, ids: list[str] | None = None
    ) -> TeacherOutput:
        """Embed waveforms.

        Arguments
        ---------
        wavs : Tensor
            Waveforms (B, samples).
        lengths : Tensor, optional
            Relative lengths (B,).
        ids : list of str, optional
            The manifest's names of the utterances; for teachers that look them up.

        Returns
        -------
        TeacherOutput
            Embeddings (B, D) and hidden outputs by layer.
        """
        embedding, hidden = self.encoder(wavs, lengths, intermediates=True)
        return TeacherOutput(embedding.squeeze(1), Layers(zip(self.layers, hidden, strict=True)))
