"""A set of embeddings in one file, with the hash of the weights that made them."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speechbrain_ext.errors import UserError
from speechbrain_ext.files import atomic_path

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

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.ids):
            raise ValueError(
                f"{len(self.ids)} ids need vectors of shape ({len(self.ids)}, D), "
                f"not {self.vectors.shape}"
            )
        if self.vectors.dtype != np.float32:
            raise ValueError(f"the vectors must be float32, not {self.vectors.dtype}")
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            twice = next(name for name in self.ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
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
                f"embedding: {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}; extract "
                "the embeddings of the set again, or mend the list of models."
            )
        rows = [row_of[name] for name in utterances]
        means.append(embeddings.vectors[rows].mean(axis=0, dtype=np.float64))
    return Embeddings(
        [*embeddings.ids, *models],
        np.concatenate((embeddings.vectors, np.array(means, dtype=np.float32))),
        embeddings.weights_sha256,
    )


def save_embeddings(path: str | os.PathLike[str], embeddings: Embeddings) -> None:
    """Write ``ids``, ``embeddings`` and ``weights_sha256`` as an ``.npz``, whole or absent.

    Example
    -------
    >>> path = getfixture("tmp_path") / "test.npz"
    >>> save_embeddings(path, Embeddings(["a"], np.ones((1, 3), dtype=np.float32), "0f3a"))
    >>> load_embeddings(path).vectors
    array([[1., 1., 1.]], dtype=float32)
    """
    # Through an open file: given a name, np.savez adds ".npz" to whatever does not end so.
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            ids=np.array(embeddings.ids, dtype=np.str_),
            embeddings=embeddings.vectors,
            weights_sha256=np.array(embeddings.weights_sha256, dtype=np.str_),
        )


def load_embeddings(path: str | os.PathLike[str]) -> Embeddings:
    """Read what :func:`save_embeddings` wrote.

    Raises
    ------
    UserError
        When the file is missing, damaged, or is no file of embeddings.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = [name for name in _FIELDS if name not in arrays]
            if missing:
                raise UserError(
                    f"{path}: the array {missing[0]!r} is missing, so this is no embeddings file; "
                    f"it needs {', '.join(_FIELDS)}."
                )
            ids, vectors, weights = (arrays[name] for name in _FIELDS)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such embeddings file; extract them first.") from None
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: the embeddings cannot be read ({error}); extract them again."
        ) from None
    try:
        return Embeddings(
            ids.tolist(), np.ascontiguousarray(vectors, dtype=np.float32), str(weights)
        )
    except ValueError as error:
        raise UserError(f"{path}: {error}; extract the embeddings again.") from None
