"""What trained models have in common that are taken along as they are."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.lobes.exact_length import each_length
from speechbrain_ext.nnet.masking import whole_lengths


class TrainedModel(Lobe):
    """A speaker model from waveforms (B, samples) to embeddings that does not learn.

    Utterances of one length go through it together, those of another apart: padding, which such
    models may let in, changes nothing. There are no hidden outputs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = {}

    @abstractmethod
    def _embed(self, wavs: Tensor) -> Tensor:
        """Embed whole utterances (b, samples) of one length to (b, 1, D), float32."""

    def train(self, mode: bool = True) -> TrainedModel:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, feats: Tensor, lengths: Tensor | None = None, intermediates: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Keep the contract of a lobe of waveforms, :class:`~speechbrain_ext.interfaces.Lobe`."""
        wavs = feats.float()
        if lengths is None:
            embedding = self._embed(wavs)
        else:
            samples = whole_lengths(lengths, wavs.shape[1]).clamp(min=1)
            (embedding,) = each_length(
                samples, lambda rows, count: [self._embed(wavs[rows, :count])]
            )
        return (embedding, []) if intermediates else embedding

    @torch.no_grad()
    def _measure(self, model: object, reads: str, remedy: str) -> int:
        """D, found by trying a second of noise.

        Arguments
        ---------
        model : object
            What the sentence names.
        reads : str
            What it is tried with.
        remedy : str
            What to do where it cannot embed that.

        Raises
        ------
        UserError
            When it makes no finite embedding of it.
        """
        noise = 0.1 * torch.randn(1, SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
        try:
            embedding = self._embed(noise)
        except UserError:
            raise
        except Exception as error:  # whatever the model makes of it
            raise UserError(
                f"{model} cannot embed a second of {reads} ({one_line(error)}): {remedy}",
                code="bad-model",
            ) from None
        if not embedding.isfinite().all():
            raise UserError(
                f"{model} gives an embedding that is not finite for a second of noise: give "
                "another model",
                code="bad-model",
            )
        return embedding.shape[2]


def one_line(error: Exception) -> str:
    """The first line of what another library says, 200 characters at most.

    Example
    -------
    >>> one_line(ValueError("no  such\\nlayer")), one_line(KeyError())
    ('no such', 'KeyError')
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
