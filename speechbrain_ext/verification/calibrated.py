"""The figures of calibrated scores on a trial list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from speechbrain_ext.decisions import Decisions, OperatingPoint
from speechbrain_ext.verification.bootstrap import mean_draws
from speechbrain_ext.verification.draws import few_speakers
from speechbrain_ext.verification.likelihood_ratios import (
    act_dcf,
    cllr,
    decision_costs,
    information_costs,
    min_cllr,
    reliability,
)
from speechbrain_ext.verification.metrics import PRIORS, ErrorRates
from speechbrain_ext.verification.trials import TrialList


def measure_calibrated(
    decisions: Decisions,
    llr: np.ndarray,
    trials: TrialList,
    scores: np.ndarray,
    speakers: np.ndarray | None,
    cross_validated: bool = False,
) -> dict[str, Any]:
    """What a calibration and thresholds, fitted elsewhere, give on a list; ready for JSON.

    Arguments
    ---------
    decisions : Decisions
        What was fitted.
    llr : np.ndarray
        (N,) log-likelihood ratios of the trials.
    trials : TrialList
        The N trials.
    scores : np.ndarray
        (N,) what the thresholds are of.
    speakers : np.ndarray, optional
        A number for the speaker of each name of the trials; without it, and with fewer than five
        speakers, there are no intervals.
    cross_validated : bool
        Whether these are the trials of the fit, and each ratio is of a fit without its speakers.

    Returns
    -------
    dict
        ``fitted_on``, ``cross_validated`` and ``measures`` of the fit; of the ratios ``eer`` in per
        cent, ``min_dcf`` and ``act_dcf`` by prior, ``cllr``, ``min_cllr`` and ``reliability``; and
        ``operating_points``, each with the ``false_alarm`` and ``miss`` rates in 0..1 that are
        ``found`` here. What has an interval by speakers is a ``value`` and an ``interval_95``,
        which is None without one.

    Example
    -------
    >>> trials = TrialList.from_names(["a", "a"], ["b", "c"], [True, False])
    >>> point = OperatingPoint("false_alarm_0.01", 0.01, 0.5, 12, True)
    >>> scores = np.array([0.9, 0.7])
    >>> found = measure_calibrated(Decisions({}, None, (point,)), scores, trials, scores, None)
    >>> found["operating_points"][0]["found"]["false_alarm"]
    {'value': 1.0, 'interval_95': None}
    """
    labels, scores = trials.labels, np.asarray(scores, dtype=np.float64)
    rates = ErrorRates.from_scores(llr, labels)
    points = decisions.operating_points
    intervals: np.ndarray | None = None
    if speakers is not None:
        sides = speakers[trials.enrol_index], speakers[trials.test_index]
        if not few_speakers(*sides):
            draws = mean_draws(_costs(llr, scores, labels, points), labels, *sides)
            whole = len(PRIORS) + 1  # of which both kinds' means sum to one figure
            figures = np.concatenate(
                (draws[:, :whole].sum(axis=2), draws[:, whole:].reshape(len(draws), -1)), axis=1
            )
            intervals = np.quantile(figures, (0.025, 0.975), axis=0).T
    order = iter([None] * (len(PRIORS) + 1 + 2 * len(points)) if intervals is None else intervals)

    def figure(value: float) -> dict[str, Any]:
        bounds = next(order)
        return {"value": value, "interval_95": None if bounds is None else bounds.tolist()}

    return {
        "fitted_on": decisions.fitted_on,
        "cross_validated": cross_validated,
        "measures": list(decisions.calibration.weights) if decisions.calibration else [],
        "eer": 100 * rates.equal_error_rate()[0],
        "min_dcf": {str(prior): rates.min_dcf(prior)[0] for prior in PRIORS},
        "act_dcf": {str(prior): figure(act_dcf(llr, labels, prior)) for prior in PRIORS},
        "cllr": figure(cllr(llr, labels)),
        "min_cllr": min_cllr(llr, labels),
        "operating_points": [
            {
                **asdict(point),
                "found": {
                    "false_alarm": figure(float(np.mean(scores[~labels] >= point.threshold))),
                    "miss": figure(float(np.mean(scores[labels] < point.threshold))),
                },
            }
            for point in points
        ],
        "reliability": reliability(llr, labels),
    }


def _costs(
    llr: np.ndarray, scores: np.ndarray, labels: np.ndarray, points: Sequence[OperatingPoint]
) -> Iterator[np.ndarray]:
    """What each trial costs, in the order of the figures with intervals."""
    for both in (*(decision_costs(llr, prior) for prior in PRIORS), information_costs(llr)):
        of_nontarget, of_target = both
        yield np.where(labels, of_target, of_nontarget)
    for point in points:
        yield (scores >= point.threshold) != labels
