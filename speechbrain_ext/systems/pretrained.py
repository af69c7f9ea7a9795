"""Trained models to use, whichever way they were kept.

Both kinds of folder hold a HyperPyYAML file, which is executed when the model is loaded: code of
SpeechBrain, PyTorch and this package, and any other where the folder is trusted.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from torch import nn

from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.systems.experiment import encoder_yaml, load_encoder
from speechbrain_ext.trust import refuse_foreign_code


def load_pretrained(folder: str | os.PathLike[str], trust: bool = False) -> SpeakerEncoder:
    """Load the encoder of an experiment folder or of an exported folder.

    Arguments
    ---------
    folder : str or path
        The folder of a finished training (``save/embedding_model.safetensors``), or what
        :func:`~speechbrain_ext.export.model_folder.write_model_folder` made of one
        (``embedding_model.ckpt``).
    trust : bool
        Whether its YAML may run other code than that of SpeechBrain, PyTorch and this package.

    Returns
    -------
    SpeakerEncoder
        On the CPU, in eval mode.

    Raises
    ------
    UserError
        When the folder is of neither kind, its YAML names other code, or what it holds cannot be
        loaded.

    Example
    -------
    >>> load_pretrained(getfixture("tmp_path"))
    Traceback (most recent call last):
    ...
    speechbrain_ext.errors.UserError: ...has no hyperparams.yaml: give the folder of a training...
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: there is no such folder; give that of a trained model.",
            code="missing-folder",
        )
    if not (folder / "hyperparams.yaml").is_file():
        raise UserError(
            f"{folder} has no hyperparams.yaml: give the folder of a training that has ended, or "
            "one that export.py made.",
            code="not-a-model",
        )
    exported = (folder / "embedding_model.ckpt").is_file()
    if not trust:
        text = None if exported else encoder_yaml(folder)  # the rest is not loaded
        refuse_foreign_code(folder / "hyperparams.yaml", text)
    return _load_exported(folder) if exported else load_encoder(folder)


def _load_exported(folder: Path) -> SpeakerEncoder:
    path, weights = folder / "hyperparams.yaml", folder / "embedding_model.ckpt"
    try:
        encoder = load_hyperpyyaml(path.read_text(encoding="utf-8")).get("embedding_model")
    except Exception as error:  # whatever the classes that the YAML names may raise
        raise UserError(
            f"{path} cannot be loaded ({_first_line(error)}): export the model again.",
            code="bad-model",
        ) from None
    if not isinstance(encoder, SpeakerEncoder):
        raise UserError(
            f"{path}: embedding_model is a {type(encoder).__name__} and no SpeakerEncoder, which "
            "goes from waveform to embedding: give a folder that export.py made.",
            code="not-a-model",
        )
    try:
        encoder.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(
            f"{weights} does not fit {path.name} ({_first_line(error)}): export the model again.",
            code="other-network",
        ) from None
    return encoder.eval()


@torch.no_grad()
def least_samples(encoder: nn.Module) -> int:
    """The shortest utterance that a model can embed, found by trying.

    Arguments
    ---------
    encoder : Module
        Maps waveforms (1, samples) to embeddings; on the CPU, in eval mode.

    Returns
    -------
    int
        Samples. One fewer gives an error or an embedding that is not finite.

    Raises
    ------
    UserError
        When even a second of noise has no finite embedding.

    Example
    -------
    >>> from speechbrain_ext.lobes.features import LogMel
    >>> from speechbrain_ext.lobes.mixer import MLPMixer
    >>> from speechbrain_ext.nnet.normalization import UtteranceNorm
    >>> network = MLPMixer(channels=16, num_blocks=1)
    >>> least_samples(SpeakerEncoder(LogMel(), UtteranceNorm(), network).eval())
    257
    """
    noise = 0.1 * torch.randn(1, SAMPLE_RATE, generator=torch.Generator().manual_seed(0))

    def problem(samples: int) -> str:
        try:
            finite = bool(torch.isfinite(encoder(noise[:, :samples])).all())
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            return _first_line(error)
        return "" if finite else "it is not finite"

    reason = problem(SAMPLE_RATE)
    if reason:
        raise UserError(
            f"the model cannot embed a second of noise ({reason}): look at its training, or give "
            "another model.",
            code="bad-model",
        )
    too_short, enough = 0, SAMPLE_RATE
    while enough - too_short > 1:
        middle = (too_short + enough) // 2
        too_short, enough = (middle, enough) if problem(middle) else (too_short, middle)
    return enough


def _first_line(error: Exception) -> str:
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
