"""A speaker model of SpeechBrain's, as it is, as a lobe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from speechbrain.inference.classifiers import EncoderClassifier
from torch import Tensor, nn

from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.lobes.taken_along import TrainedModel, one_line
from speechbrain_ext.trust import refuse_foreign_code


class SpeechBrainModel(TrainedModel):
    """What ``EncoderClassifier.encode_batch`` gives of waveforms (B, samples); it does not learn.

    Arguments
    ---------
    source : str or path
        A folder that SpeechBrain loads, an export of this recipe among them, or the name of one on
        the Hugging Face hub. It is needed whenever the lobe is made.
    trust : bool
        Whether the YAML of a folder may run other code than that of SpeechBrain, PyTorch and this
        package. That of a model of the hub may in any case.

    Raises
    ------
    UserError
        When there is no such model, its YAML names other code, or it makes no embedding of speech
        of 16 kHz.

    Example
    -------
    >>> SpeechBrainModel(getfixture("tmp_path") / "nothing")
    Traceback (most recent call last):
    ...
    speechbrain_ext.errors.UserError: ...nothing has no hyperparams.yaml: give the folder of a ...
    """

    def __init__(self, source: str | os.PathLike[str], trust: bool = False) -> None:
        super().__init__()
        loaded = _load(source, trust)
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
        self.embedding_size = self._measure(source, "speech", "give a model of speakers")

    def _embed(self, wavs: Tensor) -> Tensor:
        """Embeddings (b, 1, D) of whole utterances (b, samples)."""
        (loaded,) = self._loaded
        loaded.device = wavs.device
        embedding: Tensor = loaded.encode_batch(wavs)
        return embedding.float().reshape(len(wavs), 1, -1)


def _load(source: str | os.PathLike[str], trust: bool) -> Any:
    folder = Path(source)
    is_path = folder.is_absolute() or str(source).startswith(".") or folder.exists()
    if is_path and not (folder / "hyperparams.yaml").is_file():
        raise UserError(
            f"{source} has no hyperparams.yaml: give the folder of a model of SpeechBrain's",
            code="not-a-model",
        )
    if is_path and not trust:
        refuse_foreign_code(folder / "hyperparams.yaml")
    try:
        return EncoderClassifier.from_hparams(
            source=str(source),
            savedir=str(folder) if is_path else None,
            run_opts={"device": "cpu"},
        )
    except Exception as error:  # of the hub, or whatever the classes that the YAML names may raise
        raise UserError(
            f"{source} cannot be loaded as a speaker model of SpeechBrain's ({one_line(error)}): "
            "look at its name and the network, or give a folder",
            code="bad-model",
        ) from None
