"""A speaker model of SpeechBrain's, as it is, as a lobe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from speechbrain.inference.classifiers import EncoderClassifier
from torch import Tensor, nn

from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.interfaces import Lobe
from speechbrain_ext.lobes.exact_length import each_length
from speechbrain_ext.nnet.masking import whole_lengths


class SpeechBrainModel(Lobe):
    """What ``EncoderClassifier.encode_batch`` gives of waveforms (B, samples); it does not learn.

    Utterances of one length go through it together, those of another apart: padding, which
    SpeechBrain's networks let in, changes nothing. There are no hidden outputs. The model's
    ``hyperparams.yaml`` is executed: take it only from somebody you trust.

    Arguments
    ---------
    source : str or path
        A folder that SpeechBrain loads, an export of this recipe among them, or the name of one on
        the Hugging Face hub. It is needed whenever the lobe is made.

    Raises
    ------
    UserError
        When there is no such model, or it is none of speakers at 16 kHz.

    Example
    -------
    >>> SpeechBrainModel(getfixture("tmp_path") / "nothing")
    Traceback (most recent call last):
    ...
    speechbrain_ext.errors.UserError: ...nothing has no hyperparams.yaml: give the folder of a ...
    """

    def __init__(self, source: str | os.PathLike[str]) -> None:
        super().__init__()
        self.layers = {}
        loaded = _load(source)
        rate = getattr(loaded.hparams, "sample_rate", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            raise UserError(
                f"{source} is for speech of {rate} Hz, and here it has {SAMPLE_RATE} Hz: give "
                "another model",
                code="bad-model",
            )
        parts = {name: part for name, part in loaded.mods.items() if name != "classifier"}
        self.parts = nn.ModuleDict(parts)
        self._loaded = [loaded]  # in a list, where its classifier is no part of this
        self.eval()
        try:
            embedding = self._embed(torch.zeros(1, SAMPLE_RATE))
        except Exception as error:  # whatever the model makes of it
            raise UserError(
                f"{source} cannot embed a second of speech ({_line(error)}): give a model of "
                "speakers",
                code="bad-model",
            ) from None
        self.embedding_size = embedding.shape[2]

    def train(self, mode: bool = True) -> SpeechBrainModel:
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

    def _embed(self, wavs: Tensor) -> Tensor:
        """Embeddings (b, 1, D) of whole utterances (b, samples)."""
        (loaded,) = self._loaded
        loaded.device = wavs.device
        embedding: Tensor = loaded.encode_batch(wavs)
        return embedding.float().reshape(len(wavs), 1, -1)


def _load(source: str | os.PathLike[str]) -> Any:
    folder = Path(source)
    is_path = folder.is_absolute() or str(source).startswith(".") or folder.exists()
    if is_path and not (folder / "hyperparams.yaml").is_file():
        raise UserError(
            f"{source} has no hyperparams.yaml: give the folder of a model of SpeechBrain's",
            code="not-a-model",
        )
    try:
        return EncoderClassifier.from_hparams(
            source=str(source),
            savedir=str(folder) if is_path else None,
            run_opts={"device": "cpu"},
        )
    except Exception as error:  # of the hub, or whatever the classes that the YAML names may raise
        raise UserError(
            f"{source} cannot be loaded as a speaker model of SpeechBrain's ({_line(error)}): look "
            "at its name and the network, or give a folder",
            code="bad-model",
        ) from None


def _line(error: Exception) -> str:
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
