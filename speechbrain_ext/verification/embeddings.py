"""The one form that embeddings are kept in: names, vectors, and what they follow from.

``extract.py``, ``evaluate.py`` and ``embed.py`` write it, ``score.py`` reads it: an ``.npz`` with
the arrays ``ids`` (N,) of text, ``embeddings`` (N, D) float32 and ``weights_sha256``, a text. What
else tells embeddings apart stands beside them under a name of its own, such as
``manifest_sha256``, ``view`` or ``stamps``.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.files import atomic_path

COHORT = "cohort"  # names the file with the embeddings of training speakers
_FIELDS = ("ids", "embeddings", "weights_sha256")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """One vector for each utterance.

    Arguments
    ---------
    ids : list of str
        N distinct utterance names.
    vectors : np.ndarray
        (N, D) float32, not normalised.
    weights_sha256 : str
        Hash of the network's weights; tells embeddings of different trainings apart.
    provenance : mapping of str to array or text
        What else they follow from. From a file every value is an array.

    Raises
    ------
    ValueError
        When the shapes do not fit together or a name comes twice.

    Example
    -------
    >>> e = Embeddings(["a", "b"], np.eye(2, dtype=np.float32), "0f3a")
    >>> len(e), e.vectors.shape
    (2, (2, 2))
    """

    ids: list[str]
    vectors: np.ndarray
    weights_sha256: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.ids):
            raise ValueError(
                f"{len(self.ids)} ids need vectors of shape ({len(self.ids)}, D), "
                f"not {self.vectors.shape}"
            )
        if self.vectors.dtype != np.float32:
            raise ValueError(f"the vectors must be float32, not {self.vectors.dtype}")
        if len(set(self.ids)) != len(self.ids):
            twice = next(name for name, count in Counter(self.ids).items() if count > 1)
            raise ValueError(f"the utterance {twice!r} has more than one embedding")

    def __len__(self) -> int:
        return len(self.ids)


def with_models(embeddings: Embeddings, models: Mapping[str, Sequence[str]]) -> Embeddings:
    """Add an embedding for each model: the mean of those of its utterances.

    As Kaldi and WeSpeaker do: of the embeddings as the network gives them, not normalised before.

    Arguments
    ---------
    embeddings : Embeddings
        At least the utterances of the models.
    models : mapping of str to sequence of str
        The utterances of each model; no model has the name of an utterance.

    Returns
    -------
    Embeddings

    Raises
    ------
    UserError
        When an utterance of a model has no embedding.

    Example
    -------
    >>> vectors = np.array([[1, 0], [0, 3]], dtype=np.float32)
    >>> with_models(Embeddings(["a", "b"], vectors, ""), {"m": ["a", "b"]}).vectors[2]
    array([0.5, 1.5], dtype=float32)
    """
    row_of = {name: row for row, name in enumerate(embeddings.ids)}
    means = []
    for model, utterances in models.items():
        missing = [name for name in utterances if name not in row_of]
        if missing:
            raise UserError(
                f"{len(missing)} of the {len(utterances)} utterances of the model {model} have no "
                f"embedding: {first_few(missing)}; extract the embeddings of the set again, or "
                "mend the list of models.",
                code="missing-embedding",
            )
        rows = [row_of[name] for name in utterances]
        means.append(embeddings.vectors[rows].mean(axis=0, dtype=np.float64))
    return Embeddings(
        [*embeddings.ids, *models],
        np.concatenate((embeddings.vectors, np.array(means, dtype=np.float32))),
        embeddings.weights_sha256,
    )


def save_embeddings(path: str | os.PathLike[str], embeddings: Embeddings) -> None:
    """Write embeddings to an ``.npz``, whole or absent.

    Example
    -------
    >>> path = getfixture("tmp_path") / "test.npz"
    >>> made = Embeddings(["a"], np.ones((1, 3), dtype=np.float32), "0f3a", {"view": "full"})
    >>> save_embeddings(path, made)
    >>> load_embeddings(path).vectors, str(load_embeddings(path).provenance["view"])
    (array([[1., 1., 1.]], dtype=float32), 'full')
    """
    # Through an open file: given a name, np.savez adds ".npz" to whatever does not end so.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            ids=np.array(embeddings.ids, dtype=np.str_),
            embeddings=embeddings.vectors,
            weights_sha256=np.array(embeddings.weights_sha256, dtype=np.str_),
            **embeddings.provenance,
        )


def load_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read what :func:`save_embeddings` wrote.

    Raises
    ------
    UserError
        When the file is missing, damaged, or is no file of embeddings.
    """
    try:
        return read_embeddings(path)
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such embeddings file; extract them first.", code="missing-file"
        ) from None
    except BrokenEmbeddings as error:
        raise UserError(
            f"{path}: {error}; extract the embeddings again.", code="damaged-file"
        ) from None


class BrokenEmbeddings(Exception):
    """A file that holds no embeddings, or not all of them; it says why."""


def read_embeddings(path: str | os.PathLike[str], with_vectors: bool = True) -> Embeddings:
    """Read what :func:`save_embeddings` wrote, where the caller knows what to do without it.

    Arguments
    ---------
    path : str or path
        The file.
    with_vectors : bool
        Whether the vectors are read too; otherwise there are N of no number, (N, 0).

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    BrokenEmbeddings
        When it is damaged, or no file of embeddings.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in _FIELDS if name not in arrays]
            if missing:
                raise BrokenEmbeddings(
                    f"the array {missing[0]!r} is missing, so this is no embeddings file, which "
                    f"needs {', '.join(_FIELDS)}"
                )
            ids: list[str] = arrays["ids"].tolist()
            vectors = arrays["embeddings"] if with_vectors else np.empty((len(ids), 0))
            return Embeddings(
                ids,
                np.ascontiguousarray(vectors, dtype=np.float32),
                str(arrays["weights_sha256"]),
                {name: arrays[name] for name in arrays.files if name not in _FIELDS},
            )
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BrokenEmbeddings(f"the embeddings cannot be read ({error})") from None
