"""Folders of results that belong to one model, so that two models never share one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.lobes.encoders import SpeakerEncoder
from speechbrain_ext.systems.experiment import weights_sha256

NAME = "model.json"
# Of numbers around 1: devices and precisions differ by less, another front end by more.
_TOLERANCE = 0.05
_PROBED = 16


def model_facts(
    encoder: SpeakerEncoder, model: str | os.PathLike[str], view: str, made_by: str
) -> dict[str, Any]:
    """What embeddings follow from, ready for JSON.

    Arguments
    ---------
    encoder : SpeakerEncoder
        In eval mode, on the CPU.
    model : str or path
        Where it was loaded from. It may be moved: folders are not compared by it.
    view : str
        A key of :data:`~speechbrain_ext.inference.views.VIEWS`.
    made_by : str
        The command.

    Returns
    -------
    dict
        With ``weights_sha256``, ``view``, ``made_by``, ``model``, and ``probe``, the first numbers
        of the embedding of a fixed signal: a front end has few weights or none, and what it does
        tells it from another.
    """
    return {
        "made_by": made_by,
        "model": os.path.abspath(model),
        "view": view,
        "weights_sha256": weights_sha256(encoder.embedding_model),
        "probe": _probe(encoder),
    }


def claim_for_model(folder: str | os.PathLike[str], facts: Mapping[str, Any]) -> None:
    """Make a folder this model's, or make sure that it is.

    Arguments
    ---------
    folder : str or path
        Where results go; made when missing.
    facts : mapping
        From :func:`model_facts`; kept as ``model.json``. ``audio`` may name the folder of audio
        that the results are of.

    Raises
    ------
    UserError
        When the folder holds something else: another command's files, another model's, or those of
        another view or of other audio; or when it cannot be written.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "out"
    >>> facts = {"made_by": "embed.py", "model": "v2", "view": "full", "weights_sha256": "0f3a"}
    >>> facts["probe"] = [1.0]
    >>> claim_for_model(folder, facts)
    >>> claim_for_model(folder, {**facts, "model": "moved"})
    >>> claim_for_model(folder, {**facts, "view": "both"})
    Traceback (most recent call last):
    ...
    speechbrain_ext.errors.UserError: ...out was made with --view full and not --view both: ...
    """
    folder = Path(folder)
    record = folder / NAME
    try:
        if record.is_file():
            _compare(folder, _read(record), facts)
        elif folder.is_dir() and any(folder.iterdir()):
            raise UserError(
                f"{folder} holds files that {facts['made_by']} did not make: choose another "
                "folder.",
                code="foreign-folder",
            )
        else:
            with atomic_path(record) as temporary:
                text = json.dumps(dict(facts), indent=1, allow_nan=False)
                temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): choose another folder.",
            code="unwritable",
        ) from None


def _read(record: Path) -> dict[str, Any]:
    try:
        before = json.loads(record.read_text(encoding="utf-8"))
        return {
            "probe": np.array(before["probe"], dtype=np.float64),
            "audio": before.get("audio"),
            **{key: str(before[key]) for key in ("made_by", "model", "view", "weights_sha256")},
        }
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{record} does not say what the folder was made with: choose another folder.",
            code="unknown-origin",
        ) from None


def _compare(folder: Path, before: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    if before["made_by"] != facts["made_by"]:
        raise UserError(
            f"{folder} was made by {before['made_by']} and not {facts['made_by']}: choose another "
            "folder.",
            code="foreign-folder",
        )
    probe = np.array(facts["probe"])
    same = before["weights_sha256"] == facts["weights_sha256"] and before["probe"].shape == (
        probe.shape
    )
    if not same or not np.allclose(before["probe"], probe, rtol=0, atol=_TOLERANCE):
        raise UserError(
            f"{folder} was made with another model, {before['model']} as it was then: choose "
            "another folder, or remove that one.",
            code="other-weights",
        )
    if before["view"] != facts["view"]:
        raise UserError(
            f"{folder} was made with --view {before['view']} and not --view {facts['view']}: "
            "choose another folder.",
            code="other-settings",
        )
    if before["audio"] != facts.get("audio"):
        raise UserError(
            f"{folder} holds what was made of {before['audio'] or 'a folder that it does not name'}"
            f" and not of {facts['audio']}: choose another folder, or remove that one.",
            code="other-inputs",
        )


def system_name(model: Path) -> str:
    """The system of ``exp/<corpus>/<system>/seed_<n>`` and of its ``export``, or a folder's name.

    Example
    -------
    >>> [system_name(Path(p)) for p in ("/e/mini/v2/seed_1", "/e/mini/v2/seed_1/export", "/m/v3")]
    ['v2', 'v2', 'v3']
    """
    folder = model.resolve()
    if folder.name == "export":
        folder = folder.parent
    return folder.parent.name if folder.name.startswith("seed_") else folder.name


@torch.no_grad()
def _probe(encoder: nn.Module) -> list[float]:
    """Numbers around 1 from the embedding of a sweep that fades."""
    seconds = torch.arange(SAMPLE_RATE, dtype=torch.float64) / SAMPLE_RATE
    sweep = torch.sin(2 * torch.pi * (50 + 3900 * seconds) * seconds) * 10 ** (-3 * seconds)
    embedding = encoder(sweep.float()[None]).flatten().double()
    scaled = embedding / embedding.square().mean().sqrt().clamp(min=1e-12)
    return [round(float(number), 4) for number in scaled[:_PROBED]]
