"""Score normalisation: a score beside those that both sides have with a cohort of others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from speechbrain_ext.decisions import LEAST_NEAREST, default_top_n
from speechbrain_ext.errors import UserError
from speechbrain_ext.verification.embeddings import Embeddings, with_models
from speechbrain_ext.verification.scores import rows_and_scale
from speechbrain_ext.verification.trials import TrialList

ASNORM, SNORM = "asnorm", "snorm"
#: The norms by their options, and in words.
NORMS = {ASNORM: "AS-norm", SNORM: "S-norm"}
COSINE = "cosine"  # what scores are without a norm
_BLOCK = 1024  # of 6,000 cohort speakers, 25 MB of cosines


class Cohort(NamedTuple):
    """Those whom no trial is about.

    Arguments
    ---------
    embeddings : Embeddings
        One of each of C members, such as the mean of a training speaker's.
    nearest : int
        How many of them count for an utterance: those that it is most similar to. All of them make
        it the S-norm.
    """

    embeddings: Embeddings
    nearest: int

    @classmethod
    def of(cls, embeddings: Embeddings, norm: str, nearest: int | None = None) -> Cohort:
        """The cohort of a norm.

        Arguments
        ---------
        embeddings : Embeddings
            The members.
        norm : str
            A key of ``NORMS``.
        nearest : int, optional
            For AS-norm: a fifth of the members by default, 10 at least and 300 at most.

        Raises
        ------
        UserError
            When there are fewer than ten members, or not so many as are to count; when the
            embedding of one is zero or not finite.

        Example
        -------
        >>> members = Embeddings([f"m{n}" for n in range(60)], np.eye(60, dtype=np.float32), "")
        >>> Cohort.of(members, "snorm").nearest, Cohort.of(members, "asnorm").nearest
        (60, 12)
        """
        members = len(embeddings)
        if members < LEAST_NEAREST:
            raise UserError(
                f"the cohort has {members} members, and scores with so few have no spread to speak "
                f"of: give one of {LEAST_NEAREST} or more, of hundreds if there are",
                code="few-speakers",
            )
        lengths = np.linalg.norm(embeddings.vectors.astype(np.float64), axis=1)
        bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if len(bad):
            raise UserError(
                f"the embedding of {embeddings.ids[bad[0]]} is zero or not finite: look at that "
                "recording, or leave it out of the cohort",
                code="bad-embedding",
            )
        if norm == SNORM:
            return cls(embeddings, members)
        if nearest is None:
            nearest = default_top_n(members)
        if nearest > members:
            raise UserError(
                f"--top_n {nearest}: the cohort has {members} members: give that or less",
                code="bad-setting",
            )
        return cls(embeddings, nearest)

    @property
    def norm(self) -> str:
        """What the scores are then, in a word."""
        return NORMS[SNORM if self.nearest == len(self.embeddings) else ASNORM]

    @property
    def described(self) -> str:
        """The same, with how many count."""
        members = len(self.embeddings)
        if self.nearest == members:
            return f"{self.norm}, a cohort of {members:,}"
        return f"{self.norm}, the {self.nearest:,} nearest of a cohort of {members:,}"

    def check(self, weights: str, view: str) -> None:
        """Refuse a cohort that was not embedded as the trials are.

        Arguments
        ---------
        weights : str
            SHA-256 of the network's.
        view : str
            Of the utterances, as ``evaluate.py --view`` has it.

        Raises
        ------
        UserError
            When its network or its view is another.
        """
        if self.embeddings.weights_sha256 != weights:
            raise UserError(
                "the cohort was embedded with other weights than the trials: embed it again",
                code="other-weights",
            )
        if (own := view_of(self.embeddings)) != view:
            raise UserError(
                f"the cohort was embedded with --view {own}, and the trials with --view {view}: "
                "embed both alike",
                code="other-settings",
            )


def view_of(embeddings: Embeddings) -> str:
    """What of each utterance was embedded; the whole, where nothing says so.

    Example
    -------
    >>> view_of(Embeddings(["a"], np.ones((1, 2), dtype=np.float32), "", {"view": "both"}))
    'both'
    """
    return str(embeddings.provenance.get("view", "full"))


def normalized_scores(
    trials: TrialList, scores: np.ndarray, embeddings: Embeddings, cohort: Cohort
) -> np.ndarray:
    """Scores in standard deviations above what the two sides score with the cohort.

    Each side of a trial has a mean and a standard deviation of its cosines with its nearest members
    of the cohort. The score, less the one and over the other, is averaged over both sides: the
    symmetric norm, adaptive where not all members count (Matějka et al., "Analysis of Score
    Normalization in Multilingual Speaker Recognition", Interspeech 2017, AS-norm1). Memory is that
    of 1,024 utterances' cosines with the cohort.

    Arguments
    ---------
    trials : TrialList
        N trials.
    scores : np.ndarray
        (N,) their cosines, of :func:`~speechbrain_ext.verification.scores.cosine_scores`.
    embeddings : Embeddings
        What these were computed from.
    cohort : Cohort
        Embeddings by the same network, of speakers whom no trial is about.

    Returns
    -------
    np.ndarray
        (N,) float32, about 0 for two speakers, higher for one.

    Raises
    ------
    UserError
        When the cohort is of another network, or somebody scores the same with all that count.

    Example
    -------
    >>> trials = TrialList.from_names(["a", "a"], ["b", "c"], [True, False])
    >>> vectors = np.array([[1, 0], [1, 0.1], [1, 3]], dtype=np.float32)
    >>> members = np.array([[x, 1] for x in range(-5, 6)], dtype=np.float32)
    >>> cohort = Cohort.of(Embeddings(list("nopqrstuvwx"), members, ""), "snorm")
    >>> embeddings = Embeddings(["a", "b", "c"], vectors, "")
    >>> scores = normalized_scores(trials, np.array([0.995, 0.316]), embeddings, cohort)
    >>> [f"{score:.1f}" for score in scores]
    ['1.1', '0.0']
    """
    members = cohort.embeddings
    cohort.check(embeddings.weights_sha256, view_of(embeddings))
    if trials.models:
        embeddings = with_models(embeddings, trials.models)
    lengths = np.linalg.norm(members.vectors.astype(np.float64), axis=1)
    others = (members.vectors / lengths[:, None]).astype(np.float32)
    both = np.concatenate((trials.enrol_index, trials.test_index))
    rows, scale = rows_and_scale(trials, both, embeddings)
    used = np.unique(both)
    mean = np.zeros(len(trials.names))
    deviation = np.ones(len(trials.names))
    for start in range(0, len(used), _BLOCK):
        some = used[start : start + _BLOCK]
        cosines = (embeddings.vectors[rows[some]] * scale[some, None]) @ others.T
        if cohort.nearest < len(others):
            cosines = np.partition(cosines, len(others) - cohort.nearest, axis=1)
            cosines = cosines[:, -cohort.nearest :]
        mean[some] = cosines.mean(axis=1, dtype=np.float64)
        deviation[some] = cosines.std(axis=1, dtype=np.float64)
    if flat := int(np.count_nonzero(deviation[used] < 1e-6)):
        raise UserError(
            f"{flat} utterances of the trials have the same score with all of the cohort that "
            "count: give a cohort of different speakers",
            code="bad-embedding",
        )
    sides = [
        (scores - mean[side]) / deviation[side] for side in (trials.enrol_index, trials.test_index)
    ]
    return (0.5 * (sides[0] + sides[1])).astype(np.float32)
