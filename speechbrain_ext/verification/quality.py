"""What a calibration may weigh beside the score of a trial: measures of its recordings."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from speechbrain_ext.decisions import cohort_value, default_top_n, trial_values
from speechbrain_ext.verification.embeddings import Embeddings, with_models
from speechbrain_ext.verification.scores import rows_and_scale
from speechbrain_ext.verification.trials import TrialList

_BLOCK = 1024


def values_of(
    trials: TrialList,
    scores: np.ndarray,
    embeddings: Embeddings,
    qualities: Collection[str],
    seconds_of: Callable[[str], float] | None = None,
    cohort: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """The score of each trial, and the qualities that are asked for.

    A model of several utterances has the seconds of all of them, and the embedding that is their
    mean.

    Arguments
    ---------
    trials : TrialList
        N trials.
    scores : np.ndarray
        (N,) their cosines.
    embeddings : Embeddings
        What these were computed from.
    qualities : collection of str
        Of ``QUALITIES``.
    seconds_of : callable, optional
        Seconds of an utterance, for ``duration``.
    cohort : np.ndarray, optional
        (M, D) unit rows, for ``cohort``; see :func:`unit_cohort`.

    Returns
    -------
    dict of str to np.ndarray
        As :func:`~speechbrain_ext.decisions.trial_values`.

    Example
    -------
    >>> trials = TrialList.from_names(["a"], ["b"], [True])
    >>> embeddings = Embeddings(["a", "b"], np.array([[1, 0], [0, 3]], dtype=np.float32), "")
    >>> found = values_of(trials, np.zeros(1), embeddings, ["norm"])
    >>> {name: each.tolist() for name, each in found.items()}
    {'score': [0.0], 'norm': [0.0]}
    """
    measured: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if trials.models:
        embeddings = with_models(embeddings, trials.models)
    both = trials.enrol_index, trials.test_index
    rows, scale = rows_and_scale(trials, np.concatenate(both), embeddings)
    if "duration" in qualities:
        assert seconds_of is not None
        seconds = np.array(
            [
                sum(map(seconds_of, trials.models.get(name, (name,))))
                for name in trials.names.tolist()
            ]
        )
        measured["seconds"] = seconds[both[0]], seconds[both[1]]
    if "norm" in qualities:
        norms = 1.0 / scale.astype(np.float64)
        measured["norms"] = norms[both[0]], norms[both[1]]
    if "cohort" in qualities:
        assert cohort is not None
        means, nearest = np.empty(len(rows)), default_top_n(len(cohort))
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            units = embeddings.vectors[rows[block]] * scale[block, None]
            means[block] = cohort_value(units, cohort, nearest)
        measured["cohort"] = means[both[0]], means[both[1]]
    return trial_values(np.asarray(scores, dtype=np.float64), **measured)


def unit_cohort(members: Embeddings) -> np.ndarray:
    """A cohort as a model folder holds it: (M, D) float16, rows of length 1.

    Example
    -------
    >>> unit_cohort(Embeddings(["m"], np.array([[3, 4]], dtype=np.float32), "")).tolist()
    [[0.60009765625, 0.7998046875]]
    """
    lengths = np.linalg.norm(members.vectors.astype(np.float64), axis=1, keepdims=True)
    return (members.vectors / lengths).astype(np.float16)
