"""Scores of trials from embeddings, and the file that keeps them."""

from __future__ import annotations

import os

import numpy as np

from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.files import atomic_path
from speechbrain_ext.verification.embeddings import Embeddings, with_models
from speechbrain_ext.verification.trials import TrialList

# Two gathered blocks of 1024 x 512 float32 are 4 MB: they stay in the processor's cache.
_BLOCK = 1024


def cosine_scores(
    trials: TrialList, embeddings: Embeddings, enrol: Embeddings | None = None
) -> np.ndarray:
    """Cosine between the two embeddings of each trial, in blocks, so memory does not grow with D.

    Arguments
    ---------
    trials : TrialList
        N trials whose names are IDs of ``embeddings``; a model's embedding is the mean of its
        utterances'.
    embeddings : Embeddings
        At least the utterances of the trials, in any order.
    enrol : Embeddings, optional
        Those of the enrolled side, where another model made them in the same space: a teacher
        enrols, and its student verifies. They are ``embeddings`` by default.

    Returns
    -------
    np.ndarray
        (N,) float32, from -1 to 1, higher for "the same speaker".

    Raises
    ------
    UserError
        When an utterance of the trials has no embedding, or one that is zero or not finite; when
        those of both sides are of different sizes.

    Example
    -------
    >>> trials = TrialList.from_names(["a", "a"], ["b", "c"], [True, False])
    >>> vectors = np.array([[1, 0], [2, 0], [0, 3]], dtype=np.float32)
    >>> cosine_scores(trials, Embeddings(["a", "b", "c"], vectors, "")).tolist()
    [1.0, 0.0]
    """
    enrolled = embeddings if enrol is None else enrol
    if enrolled.vectors.shape[1] != embeddings.vectors.shape[1]:
        raise UserError(
            f"embeddings of {enrolled.vectors.shape[1]} numbers enrol, and those to verify have "
            f"{embeddings.vectors.shape[1]}: both are to be of one space, as a teacher's and its "
            "student's",
            code="other-network",
        )
    if trials.models:
        enrolled = with_models(enrolled, trials.models)
    left_rows, left_scale = rows_and_scale(trials, trials.enrol_index, enrolled)
    right_rows, right_scale = rows_and_scale(trials, trials.test_index, embeddings)
    scores = np.empty(len(trials), dtype=np.float32)
    for start in range(0, len(trials), _BLOCK):
        block = slice(start, start + _BLOCK)
        first, second = trials.enrol_index[block], trials.test_index[block]
        left, right = enrolled.vectors[left_rows[first]], embeddings.vectors[right_rows[second]]
        left *= left_scale[first, None]
        right *= right_scale[second, None]
        np.einsum("nd,nd->n", left, right, out=scores[block])
    return np.clip(scores, -1.0, 1.0, out=scores)


def rows_and_scale(
    trials: TrialList, side: np.ndarray, embeddings: Embeddings
) -> tuple[np.ndarray, np.ndarray]:
    """For each name on a side of the trials, the row of its embedding and 1 / its length.

    Arguments
    ---------
    trials : TrialList
        Trials between U names.
    side : np.ndarray
        The places of the names that are wanted; others have any row, and the scale 1.
    embeddings : Embeddings
        With a vector for each of these names.

    Returns
    -------
    (np.ndarray, np.ndarray)
        (U,) rows and (U,) scales.

    Raises
    ------
    UserError
        As :func:`cosine_scores`.

    Example
    -------
    >>> trials = TrialList.from_names(["a"], ["b"], [True])
    >>> embeddings = Embeddings(["b", "a"], np.array([[0, 2], [4, 0]], dtype=np.float32), "")
    >>> [each.tolist() for each in rows_and_scale(trials, trials.enrol_index, embeddings)]
    [[1, 0], [0.25, 1.0]]
    """
    used = np.zeros(len(trials.names), dtype=bool)
    used[side] = True
    row_of = {name: row for row, name in enumerate(embeddings.ids)}
    names = trials.names.tolist()
    rows = np.array([row_of.get(name, -1) for name in names], dtype=np.int64)

    unknown = np.flatnonzero(used & (rows < 0))
    if len(unknown):
        named = first_few([names[position] for position in unknown])
        raise UserError(
            f"{len(unknown)} utterances of the trials have no embedding: {named}; extract "
            "the embeddings of the set that the trials are about, or mend the list.",
            code="missing-embedding",
        )
    scale = np.ones(len(names), dtype=np.float32)
    for start in range(0, len(names), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(names)))
        block = block[used[block]]
        picked = embeddings.vectors[rows[block]].astype(np.float64)
        lengths = np.sqrt(np.einsum("nd,nd->n", picked, picked))
        bad = ~(np.isfinite(lengths) & (lengths >= np.finfo(np.float32).tiny))
        if bad.any():
            raise UserError(
                f"the embedding of {names[block[bad][0]]} is zero or not finite; look at that "
                "recording and at the weights, then extract the embeddings again.",
                code="bad-embedding",
            )
        scale[block] = 1.0 / lengths
    return rows, scale


def write_scores(path: str | os.PathLike[str], trials: TrialList, scores: np.ndarray) -> None:
    """Write ``label enrol test score`` a line, the score with six decimals.

    Example
    -------
    >>> path = getfixture("tmp_path") / "scores.txt"
    >>> write_scores(path, TrialList.from_names(["a"], ["b"], [True]), np.array([0.25]))
    >>> path.read_text()
    '1 a b 0.250000\\n'
    """
    names = trials.names.tolist()
    sides = zip(trials.labels, trials.enrol_index, trials.test_index, scores.tolist(), strict=True)
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(
            f"{label:d} {names[enrol]} {names[test]} {score:.6f}\n"
            for label, enrol, test, score in sides
        )
