"""How good log-likelihood ratios are, and how far they are from what they say."""

from __future__ import annotations

import numpy as np

from speechbrain_ext.decisions import bayes_threshold
from speechbrain_ext.errors import brought_by
from speechbrain_ext.verification.metrics import checked_scores

with brought_by("train"):
    from scipy.special import log_expit, logsumexp
    from sklearn.isotonic import IsotonicRegression


def act_dcf(
    llr: np.ndarray, labels: np.ndarray, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Detection cost of deciding at the Bayes threshold, normalised as ``min_dcf`` is.

    Arguments
    ---------
    llr, labels : np.ndarray
        (N,) natural log-likelihood ratios and (N,) bool labels, True for a target.
    p_target, c_miss, c_fa : float
        Prior of a target, and the costs, as for :func:`~speechbrain_ext.verification.metrics.\
min_dcf`, which is the least that any threshold gives.

    Returns
    -------
    float
        From 0 on; above 1 it is worse than to accept or to reject all.

    Raises
    ------
    ValueError
        When there is no target or no non-target, or a ratio is not finite.
    UserError
        When the prior or a cost is out of range.

    Example
    -------
    >>> llr, labels = np.array([6.0, 1.0, 2.0, -4.0]), np.array([1, 1, 0, 0], bool)
    >>> act_dcf(llr, labels, p_target=0.5), act_dcf(llr, labels, p_target=0.05)
    (0.5, 0.5)
    """
    return float(np.sum(_means(decision_costs(llr, p_target, c_miss, c_fa), llr, labels)))


def decision_costs(
    llr: np.ndarray, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """What the decision on each trial costs, were it a non-target, and were it a target.

    The mean of the first over non-targets and that of the second over targets sum to
    :func:`act_dcf`.

    Example
    -------
    >>> [each.tolist() for each in decision_costs(np.array([1.0, -1.0]), 0.5)]
    [[1.0, 0.0], [0.0, 1.0]]
    """
    accepted = np.asarray(llr) >= bayes_threshold(p_target, c_miss, c_fa)
    miss, false_alarm = c_miss * p_target, c_fa * (1.0 - p_target)
    least = min(miss, false_alarm)
    return accepted * (false_alarm / least), ~accepted * (miss / least)


def cllr(llr: np.ndarray, labels: np.ndarray) -> float:
    """Cost of log-likelihood ratios over all priors, in bits (Brümmer and du Preez 2006).

    Arguments
    ---------
    llr, labels : np.ndarray
        As for :func:`act_dcf`.

    Returns
    -------
    float
        0 of a perfect system; 1 of one that says 0 of each trial.

    Raises
    ------
    ValueError
        As :func:`act_dcf`.

    Example
    -------
    >>> cllr(np.zeros(3), np.array([1, 0, 0], bool))
    1.0
    >>> round(cllr(np.array([3.0, -3.0]), np.array([1, 0], bool)), 3)
    0.07
    """
    return float(np.sum(_means(information_costs(llr), llr, labels)))


def information_costs(llr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each ratio costs, as :func:`decision_costs`; the means sum to :func:`cllr`."""
    ratios = np.asarray(llr, dtype=np.float64)
    half_bit = 0.5 / np.log(2.0)
    return half_bit * np.logaddexp(0.0, ratios), half_bit * np.logaddexp(0.0, -ratios)


def _means(
    costs: tuple[np.ndarray, np.ndarray], llr: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    _, is_target = checked_scores(llr, labels)
    return float(costs[0][~is_target].mean()), float(costs[1][is_target].mean())


def min_cllr(scores: np.ndarray, labels: np.ndarray) -> float:
    """The least :func:`cllr` that any rising function makes of scores.

    It is that of the isotonic regression (pool adjacent violators), fitted on these very trials.

    Arguments
    ---------
    scores, labels : np.ndarray
        (N,) scores, higher for "the same speaker", and (N,) bool labels, True for a target.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        As :func:`act_dcf`.

    Example
    -------
    >>> min_cllr(np.array([9.0, 2.0, 1.0]), np.array([1, 1, 0], bool))
    0.0
    >>> min_cllr(np.array([1.0, 2.0, 3.0]), np.array([1, 1, 0], bool))
    1.0
    """
    scores, is_target = checked_scores(scores, labels)
    weights = balanced_weights(is_target, 0.5)
    regression = IsotonicRegression(y_min=0.0, y_max=1.0)
    points = scores.astype(np.float64)
    posterior = regression.fit(points, is_target, weights).predict(points)
    right = np.where(is_target, posterior, 1.0 - posterior)
    # No number below 0 comes out but a zero with a sign.
    return abs(float(np.sum(weights * np.log2(np.maximum(right, np.finfo(float).tiny)))))


def balanced_weights(is_target: np.ndarray, p_target: float) -> np.ndarray:
    """Weights (N,) of trials with which targets have the share ``p_target`` of a sum of 1.

    Example
    -------
    >>> balanced_weights(np.array([True, False, False]), 0.5).tolist()
    [0.5, 0.25, 0.25]
    """
    targets = np.count_nonzero(is_target)
    of_each = (1.0 - p_target) / (len(is_target) - targets), p_target / targets
    return np.where(is_target, of_each[1], of_each[0])


def reliability(llr: np.ndarray, labels: np.ndarray, bins: int = 15) -> dict[str, list[float]]:
    """What log-likelihood ratios say beside what was found, in bins of equal weight.

    Arguments
    ---------
    llr, labels : np.ndarray
        As for :func:`act_dcf`.
    bins : int
        How many there are; equal ratios are in one. Those with targets alone, or without any, are
        left out, since what is found there has no end.

    Returns
    -------
    dict
        ``said``, the ratio of the mean posterior in a bin, at even odds; ``found``, the logarithm
        of how many times more frequent targets are there than non-targets, each as a share of its
        kind; and how many ``targets`` and ``nontargets`` that is.

    Example
    -------
    >>> llr = np.random.default_rng(0).normal(np.repeat([-2.0, 2.0], 2000), 2.0)  # perfect ratios
    >>> found = reliability(llr, np.repeat([False, True], 2000))
    >>> bool(np.abs(np.subtract(found["said"], found["found"])).mean() < 0.3)
    True
    """
    llr, is_target = checked_scores(llr, labels)
    ratios, weights = llr.astype(np.float64), balanced_weights(is_target, 0.5)
    # Equal ratios are in one bin, that of their middle.
    _, run_of = np.unique(ratios, return_inverse=True)
    share_of = np.bincount(run_of, weights)
    middle = np.cumsum(share_of) - 0.5 * share_of
    place = np.minimum((middle * bins).astype(int), bins - 1)[run_of]
    table: dict[str, list[float]] = {"said": [], "found": [], "targets": [], "nontargets": []}
    for number in range(bins):
        chosen = place == number
        targets, nontargets = (chosen & kind for kind in (is_target, ~is_target))
        if not (targets.any() and nontargets.any()):
            continue
        own, share = ratios[chosen], weights[chosen]
        # By logarithms: a mean of posteriors that are 1 to the last digit has no ratio.
        said = logsumexp(log_expit(own), b=share) - logsumexp(log_expit(-own), b=share)
        table["said"].append(float(said))
        table["found"].append(float(np.log(weights[targets].sum() / weights[nontargets].sum())))
        table["targets"].append(int(np.count_nonzero(targets)))
        table["nontargets"].append(int(np.count_nonzero(nontargets)))
    return table
