"""From the words of a command to a model folder; ``export.py`` and ``spk export`` are this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechbrain_ext.errors import UserError, brought_by
from speechbrain_ext.export.card import count_words
from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.systems.experiment import read_hyperparams

if TYPE_CHECKING:
    from speechbrain_ext.export.engine_files import Speech

#: What a user calls the precisions of the files for other engines.
FORMATS = {"onnx": "fp32", "int8": "int8", "fp16": "fp16"}
_DEFAULT = ("onnx", "int8")
# Where nobody asked for them, there are no such files for want of these.
_WITHOUT = ("no-graph", "missing-package", "missing-option", "earlier-stage", "few-files")


def export_experiment(
    experiment: Path,
    out: Path | None = None,
    formats: Sequence[str] | None = None,
    manifests: Path | None = None,
) -> list[str]:
    """Write ``export/`` into an experiment folder, or the folder asked for.

    Arguments
    ---------
    experiment : Path
        Folder of a finished training. Its YAML is executed: trust it first.
    out : Path, optional
        The folder to write.
    formats : sequence of str, optional
        Of ``FORMATS``, or ``none``; ``onnx`` and ``int8`` where the network can leave PyTorch.
    manifests : Path, optional
        The folder of the corpus that these files are made and measured with; that of the training
        by default.

    Returns
    -------
    list of str
        What was written, in lines.

    Raises
    ------
    UserError
        As :func:`~speechbrain_ext.export.model_folder.write_model_folder`.
    """
    folder, told = out or experiment / "export", list[str]()
    precisions = [FORMATS[name] for name in FORMATS if name in (formats or _DEFAULT)]
    try:
        speech = _speech(experiment, manifests) if precisions else None
        facts = write_model_folder(experiment, folder, precisions, speech)
    except UserError as error:
        if formats or error.code not in _WITHOUT:
            raise
        told.append(f"Exported to SpeechBrain alone: {error}")
        facts = write_model_folder(experiment, folder)
    return [*told, *_told(experiment, folder, facts)]


def _told(experiment: Path, folder: Path, facts: dict[str, Any]) -> list[str]:
    lines = [
        f"{experiment} exported to {folder}: {count_words(facts['parameters'])}, "
        f"{facts['speakers']} speakers, embeddings within {facts['difference']:.1e} of the recipe's"
    ]
    for file in facts["files"]:
        least = min(each["cosine"] for each in file["parity"])
        size = file["bytes"] / 1e6
        lines.append(f"{file['file']}: {size:.1f} MB, cosine to PyTorch {least:.5f} or more")
    if facts["files"] and not any(file["input"] == "features" for file in facts["files"]):
        lines.append(
            "There is no speaker-embedding.onnx: no engine computes the features that this system "
            "reads. Students from V4 on read Kaldi's."
        )
    return lines


def _speech(experiment: Path, manifests: Path | None) -> Speech:
    """What the files are made and measured with; by default what the system was trained with."""
    with brought_by("export"):
        from speechbrain_ext.export.engine_files import Speech
    if manifests is not None:
        return Speech.of(manifests)
    train_csv = read_hyperparams(experiment).get("train_csv")
    if train_csv is None:
        raise UserError(
            f"{experiment} was trained elsewhere, and its files are made with speech: give the "
            "folder of a corpus by --manifests, or --formats none",
            code="missing-option",
        )
    return Speech.of(Path(train_csv).parent)
