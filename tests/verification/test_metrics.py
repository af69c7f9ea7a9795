"""EER and minDCF against hand-computed cases, a brute-force count and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from speechbrain_ext.verification.metrics import ErrorRates, equal_error_rate, min_dcf

SCORES = np.array([0.9, 0.7, 0.6, 0.4, 0.8, 0.5, 0.3, 0.2, 0.1])
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)


def _cases() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(4)
    cases = []
    for decimals in (0, 1, 2, 8):  # few decimals: many equal scores
        labels = rng.random(400) < 0.3
        cases.append((np.round(rng.standard_normal(400) + 1.5 * labels, decimals), labels))
    labels = rng.random(50) < 0.5
    cases.append((rng.standard_normal(50) - 2.0 * labels, labels))  # worse than chance
    cases.append((SCORES, LABELS))
    return cases


def _count(scores: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, float]]:
    """Threshold, miss and false alarm, counted anew at every threshold."""
    points = []
    for threshold in [*sorted(set(scores.tolist())), np.inf]:
        accepted = scores >= threshold
        points.append((threshold, (~accepted[labels]).mean(), accepted[~labels].mean()))
    return points


@pytest.mark.parametrize(("scores", "labels"), _cases())
def test_operating_points_equal_a_count(scores: np.ndarray, labels: np.ndarray) -> None:
    """Cumulated rates are those of counting, with one point for each distinct score."""
    rates = ErrorRates.from_scores(scores, labels)
    expected = np.array(_count(scores, labels))
    np.testing.assert_array_equal(rates.thresholds[:-1], expected[:-1, 0])
    assert np.isfinite(rates.thresholds).all() and rates.thresholds[-1] > scores.max()
    np.testing.assert_allclose(rates.miss, expected[:, 1], atol=1e-15)
    np.testing.assert_allclose(rates.false_alarm, expected[:, 2], atol=1e-15)


@pytest.mark.parametrize(("scores", "labels"), _cases())
def test_eer_equals_that_of_scikit_learn(scores: np.ndarray, labels: np.ndarray) -> None:
    """The crossing lies where scikit-learn's ROC, joined by straight lines, meets the diagonal."""
    false_alarm, hit, _ = roc_curve(labels, scores, drop_intermediate=False)
    gap = (1 - hit) - false_alarm  # falls from 1 to -1
    after = int(np.flatnonzero(gap <= 0)[0])
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    expected = false_alarm[after - 1] + share * (false_alarm[after] - false_alarm[after - 1])
    assert equal_error_rate(scores, labels)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("scores", "labels"), _cases())
@pytest.mark.parametrize(("prior", "c_miss", "c_fa"), [(0.01, 1, 1), (0.05, 1, 1), (0.3, 10, 2)])
def test_min_dcf_equals_a_search(
    scores: np.ndarray, labels: np.ndarray, prior: float, c_miss: float, c_fa: float
) -> None:
    """The least cost is that of trying every threshold, and is had at the threshold given."""
    blind = min(c_miss * prior, c_fa * (1 - prior))
    costs = [
        (c_miss * prior * miss + c_fa * (1 - prior) * false_alarm) / blind
        for _, miss, false_alarm in _count(scores, labels)
    ]
    value, threshold = min_dcf(scores, labels, prior, c_miss, c_fa)
    assert value == pytest.approx(min(costs))
    accepted = scores >= threshold
    miss, false_alarm = (~accepted[labels]).mean(), accepted[~labels].mean()
    cost = (c_miss * prior * miss + c_fa * (1 - prior) * false_alarm) / blind
    assert cost == pytest.approx(value)


def test_by_hand() -> None:
    """Four targets and five non-targets, worked out on paper."""
    # Rising scores: 0.1n 0.2n 0.3n 0.4t 0.5n 0.6t 0.7t 0.8n 0.9t.
    # Accepting from 0.5 on: miss 1/4, false alarm 2/5; from 0.6 on: 1/4 and 1/5. They cross at 1/4,
    # (2/5 - 1/4) / (1/5) = 3/4 of the way.
    eer, threshold = equal_error_rate(SCORES, LABELS)
    assert eer == pytest.approx(0.25)
    assert threshold == pytest.approx(0.575)
    # At P 0.01 a false alarm costs 99 misses: best is to accept from 0.9 on, 3/4 missed.
    cost, threshold = min_dcf(SCORES, LABELS, 0.01)
    assert cost == pytest.approx(0.75) and threshold == 0.9
    # At P 0.5: from 0.6 on 1/4 + 1/5; from 0.4 on 0 + 2/5, which is less.
    cost, threshold = min_dcf(SCORES, LABELS, 0.5)
    assert cost == pytest.approx(0.4) and threshold == 0.4


def test_ends_of_the_scale() -> None:
    """Separated, reversed and constant scores."""
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    labels = np.array([1, 1, 0, 0], dtype=bool)
    assert equal_error_rate(scores, labels)[0] == 0.0
    assert min_dcf(scores, labels, 0.01) == (0.0, 3.0)
    assert equal_error_rate(-scores, labels)[0] == 1.0
    value, threshold = min_dcf(-scores, labels, 0.01)
    assert value == 1.0 and threshold > -1.0  # nothing beats rejecting all
    # One score for all is one point that accepts all and one that rejects all: chance.
    assert equal_error_rate(np.zeros(10), np.arange(10) < 2)[0] == 0.5


def test_order_of_equal_scores_does_not_matter() -> None:
    """Targets listed before or after non-targets of the same score make no difference."""
    scores = np.array([0.5] * 6 + [0.9, 0.1])
    first = np.array([1, 1, 1, 0, 0, 0, 1, 0], dtype=bool)
    last = np.array([0, 0, 0, 1, 1, 1, 1, 0], dtype=bool)
    assert equal_error_rate(scores, first) == equal_error_rate(scores, last)
    assert min_dcf(scores, first, 0.05) == min_dcf(scores, last, 0.05)


def test_what_cannot_be_measured_is_refused() -> None:
    """One kind of trials, scores that are no numbers, lengths and priors that do not fit."""
    for labels, missing in ((np.ones(3, bool), "non-target"), (np.zeros(3, bool), "target")):
        with pytest.raises(ValueError, match=f"no {missing} among the 3"):
            equal_error_rate(np.arange(3.0), labels)
    with pytest.raises(ValueError, match="trial 1 is nan"):
        equal_error_rate(np.array([0.0, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match=r"\(3,\) and labels \(2,\)"):
        equal_error_rate(np.arange(3.0), np.array([True, False]))
    for prior in (0.0, 1.0):
        with pytest.raises(ValueError, match="p_target"):
            min_dcf(SCORES, LABELS, prior)
    with pytest.raises(ValueError, match="costs"):
        min_dcf(SCORES, LABELS, 0.5, c_miss=0.0)


def test_curve_is_short_and_true() -> None:
    """Points to draw are few, in order, spread to both ends, and all of them operating points."""
    rng = np.random.default_rng(5)
    labels = rng.random(20_000) < 0.2
    rates = ErrorRates.from_scores(rng.standard_normal(20_000) + 2 * labels, labels)
    false_alarm, miss = rates.curve(points=200)
    assert 150 < len(miss) == len(false_alarm) <= 200
    assert (np.diff(miss) >= 0).all() and (np.diff(false_alarm) <= 0).all()
    assert miss[0] < 0.001 and false_alarm[-1] < 0.001
    points = set(zip(rates.miss.tolist(), rates.false_alarm.tolist(), strict=True))
    assert points.issuperset(zip(miss.tolist(), false_alarm.tolist(), strict=True))
    perfect = ErrorRates.from_scores(np.array([0.0, 1.0]), np.array([False, True])).curve()
    assert len(perfect[0]) >= 1
