"""From scores to log-likelihood ratios and thresholds, fitted on trials of held-out speakers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from speechbrain_ext.decisions import (
    FALSE_ALARMS,
    LEAST_FALSE_ALARMS,
    SCORE,
    Calibration,
    Decisions,
    OperatingPoint,
)
from speechbrain_ext.errors import UserError, brought_by
from speechbrain_ext.verification.likelihood_ratios import balanced_weights
from speechbrain_ext.verification.metrics import ErrorRates, checked_scores

with brought_by("train"):
    from sklearn.linear_model import LogisticRegression

#: The prior that a fit is weighted to: between the two that costs are measured at and one half.
P_TARGET = 0.05
#: With fewer targets, or non-targets, a fit says little.
LEAST_TRIALS = 10
_FOLDS = 5


def fit_calibration(
    values: Mapping[str, np.ndarray], labels: np.ndarray, p_target: float = P_TARGET
) -> Calibration:
    """Logistic regression of trials, as weights of their values and a bias.

    Targets weigh as much as ``p_target`` says, whatever their number. Values are standardised
    inside. A light L2 penalty bounds the weights where trials can be told apart without an error.

    Arguments
    ---------
    values : mapping of str to np.ndarray
        (N,) each, those that are to have a weight: ``score``, and others of
        :func:`~speechbrain_ext.decisions.trial_values`.
    labels : np.ndarray
        (N,) bool, True for a target.
    p_target : float
        The prior at which the fit is to be good.

    Returns
    -------
    Calibration

    Raises
    ------
    UserError
        When there are fewer than ten targets, or non-targets.
    ValueError
        When the arrays do not fit together or a value is not finite.

    Example
    -------
    >>> labels = np.repeat([False, True], 1000)
    >>> scores = np.random.default_rng(0).normal(labels * 0.5, 0.25)
    >>> calibration = fit_calibration({"score": scores}, labels)
    >>> abs(calibration.weights["score"] - 8.0) < 1.0  # 0.5 / 0.25²
    True
    >>> abs(calibration.llr({"score": 0.25})) < 0.5
    True
    """
    for each in values.values():
        _, is_target = checked_scores(each, labels)
    targets = int(np.count_nonzero(is_target))
    for kind, count in (("target", targets), ("non-target", len(is_target) - targets)):
        if count < LEAST_TRIALS:
            raise UserError(
                f"{count} {kind} trial{'s' if count > 1 else ''} cannot calibrate scores, which "
                f"takes {LEAST_TRIALS}, and hundreds to do it well: hold more speakers out",
                code="few-trials",
            )
    columns = np.column_stack([np.asarray(each, dtype=np.float64) for each in values.values()])
    mean, deviation = columns.mean(axis=0), columns.std(axis=0)
    # What does not vary, but by rounding, has no weight.
    varies = deviation > 1e-6 * np.maximum(1.0, np.abs(mean))
    standard = (columns - mean) * varies / np.where(varies, deviation, 1.0)
    weights = balanced_weights(is_target, p_target) * len(is_target)
    fitted = LogisticRegression(solver="newton-cholesky", tol=1e-8).fit(
        standard, is_target, weights
    )
    plain = fitted.coef_[0] / np.where(varies, deviation, 1.0)
    bias = float(fitted.intercept_[0] - plain @ mean - np.log(p_target / (1.0 - p_target)))
    return Calibration(bias, dict(zip(values, plain.tolist(), strict=True)), p_target)


def operating_points(scores: np.ndarray, labels: np.ndarray) -> tuple[OperatingPoint, ...]:
    """Thresholds at the equal error rate, and at rates of false alarms.

    Each is the lowest score at which no more non-targets are accepted than the rate allows.

    Arguments
    ---------
    scores, labels : np.ndarray
        (N,) scores, higher for "the same speaker", and (N,) bool labels, True for a target.

    Returns
    -------
    tuple of OperatingPoint

    Raises
    ------
    ValueError
        When there is no target or no non-target, or a score is not finite.

    Example
    -------
    >>> scores = np.append(np.linspace(0.0, 0.499, 500), [0.6, 0.7])
    >>> points = operating_points(scores, np.arange(502) >= 500)
    >>> [(point.name, point.trials) for point in points[1:]]
    [('false_alarm_0.01', 5), ('false_alarm_0.001', 0), ('false_alarm_0.0001', 0)]
    >>> points[1].threshold
    0.495
    """
    rates = ErrorRates.from_scores(scores, labels)
    nontargets = np.sort(np.asarray(scores)[~np.asarray(labels, dtype=bool)].astype(np.float64))

    def point(name: str, false_alarm: float, threshold: float) -> OperatingPoint:
        above = len(nontargets) - int(np.searchsorted(nontargets, threshold, "left"))
        return OperatingPoint(name, false_alarm, threshold, above, above >= LEAST_FALSE_ALARMS)

    points = [point("eer", *rates.equal_error_rate())]
    for rate in FALSE_ALARMS:
        place = int(np.argmax(rates.false_alarm <= rate))
        points.append(point(f"false_alarm_{rate:g}", rate, float(rates.thresholds[place])))
    return tuple(points)


def fit_decisions(
    values: Mapping[str, np.ndarray], labels: np.ndarray, title: str, speakers: int
) -> Decisions:
    """Calibrate scores, and find their operating points.

    Arguments
    ---------
    values, labels
        As for :func:`fit_calibration`.
    title : str
        What the trials are, in words.
    speakers : int
        How many persons they are of.

    Returns
    -------
    Decisions

    Raises
    ------
    UserError, ValueError
        As :func:`fit_calibration`.

    Example
    -------
    >>> labels = np.repeat([False, True], 50)
    >>> decisions = fit_decisions({"score": labels + np.arange(100) % 7.0}, labels, "held out", 9)
    >>> decisions.fitted_on["targets"], decisions.operating_points[0].name
    (50, 'eer')
    """
    labels = np.asarray(labels, dtype=bool)
    digest = hashlib.sha256(labels.tobytes())
    for name, each in values.items():
        digest.update(name.encode())
        digest.update(np.asarray(each, dtype=np.float64).tobytes())
    targets = int(np.count_nonzero(labels))
    fitted_on = {
        "title": title,
        "targets": targets,
        "nontargets": len(labels) - targets,
        "speakers": speakers,
        "digest": digest.hexdigest(),
    }
    points = operating_points(values[SCORE], labels)
    return Decisions(fitted_on, fit_calibration(values, labels), points)


def cross_validated_llr(
    values: Mapping[str, np.ndarray],
    labels: np.ndarray,
    enrol_speakers: np.ndarray,
    test_speakers: np.ndarray,
    seed: int = 0,
) -> np.ndarray:
    """Log-likelihood ratios of trials, each by a fit on trials without its speakers.

    The speakers are dealt into five parts. The trials between two parts, or within one, get the
    ratios of a fit on the trials of the other parts alone.

    Arguments
    ---------
    values, labels
        As for :func:`fit_calibration`.
    enrol_speakers, test_speakers : np.ndarray
        (N,) int each, the speaker on each side.
    seed : int
        The same seed deals the speakers alike.

    Returns
    -------
    np.ndarray
        (N,) float64.

    Raises
    ------
    UserError
        When a fit has too few trials.

    Example
    -------
    >>> speakers = np.repeat(np.arange(20), 3)
    >>> first, second = np.triu_indices(60, k=1)
    >>> labels = speakers[first] == speakers[second]
    >>> values = {"score": np.random.default_rng(0).normal(labels * 3.0)}
    >>> cross_validated_llr(values, labels, speakers[first], speakers[second]).shape
    (1770,)
    """
    numbers, places = np.unique((enrol_speakers, test_speakers), return_inverse=True)
    part_of = np.random.default_rng(seed).permutation(len(numbers)) % _FOLDS
    enrol, test = np.sort(part_of[places.reshape(2, -1)], axis=0)
    llr = np.empty(len(labels))
    for one in range(_FOLDS):
        for other in range(one, _FOLDS):
            asked = (enrol == one) & (test == other)
            if not asked.any():
                continue
            fitted = ~np.isin(enrol, (one, other)) & ~np.isin(test, (one, other))
            if labels[fitted].all() or not labels[fitted].any():
                raise UserError(
                    "there are too few speakers to fit on some and to try on others: hold more "
                    "speakers out",
                    code="few-trials",
                )
            calibration = fit_calibration(_some(values, fitted), labels[fitted])
            llr[asked] = calibration.llr(_some(values, asked))
    return llr


def _some(values: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: each[chosen] for name, each in values.items()}
