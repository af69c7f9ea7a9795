"""A model folder as the runtime reads it: facts, files and their digests, never its YAML."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.decisions import Decisions
from speechbrain_ext.errors import UserError

#: What a folder says of itself, the digests of its files among it.
FACTS = "model.json"
#: Stems of the files that run without PyTorch, by what they read.
WAVEFORM, FEATURES = "waveform", "speaker-embedding"
#: What the name of a file ends with, by its precision.
ENDINGS = {"fp32": ".onnx", "fp16": ".fp16.onnx", "int8": ".int8.onnx"}
#: Embeddings of training speakers, (members, D), of unit length.
COHORT = "cohort.npy"
# The first that a folder has is run, where nobody asks for another.
_PREFERRED = ("int8", "fp32", "fp16")


class ModelFolder:
    """A folder that ``export.py`` wrote, or a single ONNX file.

    Arguments
    ---------
    path : Path
        The folder or file.

    Raises
    ------
    UserError
        When it is not there, or its ``model.json`` cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.facts = path, dict[str, Any]()
        if not path.exists():
            raise UserError(
                f"{path}: there is no such model; give a folder that export.py made, or an ONNX "
                "file",
                code="missing-file",
            )
        if path.is_dir() and (path / FACTS).is_file():
            self.facts = self._read_facts()

    def file(self, precision: str | None = None) -> Path:
        """The ONNX file to run: of waveforms before features, of 8 bits before others.

        Arguments
        ---------
        precision : str, optional
            ``fp32``, ``fp16`` or ``int8``; the first that there is of INT8, FP32 and FP16 else.

        Raises
        ------
        UserError
            When there is none.
        """
        if precision is not None and precision not in ENDINGS:
            raise UserError(
                f"the precision {precision!r} is none: give {', '.join(ENDINGS)}",
                code="bad-option",
            )
        if not self.path.is_dir():
            return self.path
        for each in [precision] if precision else _PREFERRED:
            for stem in (WAVEFORM, FEATURES):
                if (found := self.path / (stem + ENDINGS[each])).is_file():
                    return found
        wanted = WAVEFORM + ENDINGS[precision or "fp32"]
        raise UserError(
            f"{self.path} has no {wanted}: give another precision, or a folder that export.py "
            "made with --formats onnx int8",
            code="not-a-model",
        )

    def read(self, file: Path) -> bytes:
        """The content of a file of the folder, which is what ``model.json`` says it is.

        Raises
        ------
        UserError
            When it is not, or cannot be read.
        """
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(
                f"{file} cannot be read ({error.strerror}): mend that, or give another model",
                code="unreadable-file",
            ) from None
        known = self.facts.get("sha256", {}).get(file.name)
        if self.facts and hashlib.sha256(content).hexdigest() != known:
            raise UserError(
                f"{file} is not what {self.path / FACTS} says that export.py wrote: copy the "
                "folder again, or export the model again",
                code="damaged-file",
            )
        return content

    def decisions(self) -> Decisions | None:
        """What the model decides by, where its recipe has scored speakers held out."""
        tree = self.facts.get("decisions")
        return None if tree is None else Decisions.read(tree, self.path / FACTS)

    def cohort(self, dim: int) -> np.ndarray:
        """Embeddings of training speakers (members, D), float32.

        Raises
        ------
        UserError
            When there are none, or none of ``dim`` numbers.
        """
        path = self.path / COHORT
        try:
            cohort = np.load(io.BytesIO(self.read(path)), allow_pickle=False)
            if cohort.ndim != 2 or not len(cohort) or cohort.shape[1] != dim:
                raise ValueError(f"an array of shape {cohort.shape}, not (members, {dim})")
            return cohort.astype(np.float32)
        except (ValueError, EOFError) as error:
            raise UserError(
                f"{path} holds no cohort ({error}): export the model again", code="damaged-file"
            ) from None

    def _read_facts(self) -> dict[str, Any]:
        path = self.path / FACTS
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(facts, dict) or not isinstance(facts.get("sha256"), dict):
                raise ValueError("no digests of files")
            return facts
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{path} cannot be read ({error}): copy the folder again, or export the model "
                "again",
                code="damaged-file",
            ) from None


def read_decisions(path: Path) -> Decisions:
    """Read a file that ``spk calibrate`` wrote.

    Raises
    ------
    UserError
        When it cannot be read.
    """
    remedy = "give a file that spk calibrate wrote"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} holds no decisions ({error}): {remedy}", code="unreadable-file"
        ) from None
    return Decisions.read(tree, path, remedy)
