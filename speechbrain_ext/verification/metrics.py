"""Error rates of a list of scores: EER, minDCF and the curve they lie on.

The scores are sorted once and the errors on each side cumulated, so the cost is that of a sort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The priors of one speaker that costs are measured at.
PRIORS = (0.01, 0.05)


@dataclass(frozen=True, eq=False)
class ErrorRates:
    """Every operating point that a list of scores has.

    A trial is accepted when its score is at or above the threshold. No threshold tells equal scores
    apart, so there is one point for each distinct score, and one above them that rejects all.

    Arguments
    ---------
    thresholds : np.ndarray
        (K + 1,) float64, the K distinct scores rising, then the next number above the highest.
    miss : np.ndarray
        (K + 1,) float64, share of targets rejected; rises from 0 to 1.
    false_alarm : np.ndarray
        (K + 1,) float64, share of non-targets accepted; falls from 1 to 0.
    """

    thresholds: np.ndarray
    miss: np.ndarray
    false_alarm: np.ndarray

    @classmethod
    def from_scores(cls, scores: np.ndarray, labels: np.ndarray) -> ErrorRates:
        """Sort and cumulate; (N,) scores, (N,) bool labels, True for a target.

        Raises
        ------
        ValueError
            When there is no target or no non-target, or a score is not finite.

        Example
        -------
        >>> rates = ErrorRates.from_scores(np.array([0.9, 0.4, 0.4]), np.array([1, 1, 0], bool))
        >>> rates.thresholds[:2].tolist(), rates.miss.tolist(), rates.false_alarm.tolist()
        ([0.4, 0.9], [0.0, 0.5, 1.0], [1.0, 0.0, 0.0])
        """
        scores, labels = checked_scores(scores, labels)
        order = np.argsort(scores)
        ranked = scores[order]
        targets = labels[order]
        # Where each run of equal scores begins.
        begins = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        targets_below = np.concatenate(([0], np.cumsum(targets)))
        below = np.append(begins, len(ranked))
        total = targets_below[-1]
        miss = targets_below[below]
        nontargets = len(ranked) - total
        distinct = ranked[begins].astype(np.float64)
        return cls(
            np.append(distinct, np.nextafter(distinct[-1], np.inf)),
            miss / total,
            (nontargets - (below - miss)) / nontargets,
        )

    def equal_error_rate(self) -> tuple[float, float]:
        """EER in 0..1 and its threshold, interpolated between the points where the curves cross.

        Example
        -------
        >>> scores, labels = np.array([3.0, 1.0, 2.0, 0.0]), np.array([1, 1, 0, 0], bool)
        >>> ErrorRates.from_scores(scores, labels).equal_error_rate()
        (0.5, 2.0)
        """
        gap = self.miss - self.false_alarm  # rises from -1 to 1
        after = int(np.searchsorted(gap, 0.0))
        before = after - 1
        share = -gap[before] / (gap[after] - gap[before])
        rate, threshold = (
            values[before] + share * (values[after] - values[before])
            for values in (self.miss, self.thresholds)
        )
        return float(rate), float(threshold)

    def min_dcf(
        self, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
    ) -> tuple[float, float]:
        """Least normalised detection cost and its threshold; see :func:`min_dcf`."""
        if not 0.0 < p_target < 1.0:
            raise ValueError(f"p_target must lie between 0 and 1, not {p_target}")
        if not (c_miss > 0.0 and c_fa > 0.0):
            raise ValueError(f"costs must be positive, not {c_miss} and {c_fa}")
        miss_weight, false_alarm_weight = c_miss * p_target, c_fa * (1.0 - p_target)
        costs = miss_weight * self.miss + false_alarm_weight * self.false_alarm
        best = int(np.argmin(costs))
        return float(costs[best] / min(miss_weight, false_alarm_weight)), float(
            self.thresholds[best]
        )

    def curve(self, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """At most ``points`` operating points for drawing: (false alarm, miss), (P,) each.

        They are spread evenly along the DET plot's probit axes, and the ends where an error is 0
        (at infinity on those axes) are left out unless there is nothing else.
        """
        inside = np.flatnonzero((self.miss > 0) & (self.false_alarm > 0))
        if len(inside) == 0:  # a perfect separation
            inside = np.flatnonzero(self.miss + self.false_alarm < 1.0)
        if len(inside) > points:
            # Logits run nearly like probits and need no further library.
            steps = [np.abs(np.diff(_logit(r[inside]))) for r in (self.miss, self.false_alarm)]
            along = np.concatenate(([0.0], np.cumsum(steps[0] + steps[1])))
            chosen = np.searchsorted(along, np.linspace(0.0, along[-1], points))
            inside = inside[np.unique(np.minimum(chosen, len(inside) - 1))]
        return self.false_alarm[inside], self.miss[inside]


def equal_error_rate(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Equal error rate, by linear interpolation between the two points around the crossing.

    Arguments
    ---------
    scores : np.ndarray
        (N,), higher for "the same speaker".
    labels : np.ndarray
        (N,) bool, True for a target.

    Returns
    -------
    tuple of float
        The rate, in 0..1, and the threshold where it is had.

    Raises
    ------
    ValueError
        When there is no target or no non-target, or a score is not finite.

    Example
    -------
    >>> equal_error_rate(np.array([0.9, 0.8, 0.2, 0.1]), np.array([1, 1, 0, 0], bool))[0]
    0.0
    """
    return ErrorRates.from_scores(scores, labels).equal_error_rate()


def min_dcf(
    scores: np.ndarray, labels: np.ndarray, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> tuple[float, float]:
    """Minimum of NIST's detection cost, divided by that of the better blind decision.

    cost(t) = c_miss · p_target · miss(t) + c_fa · (1 − p_target) · false_alarm(t); a system that
    accepts or rejects everything has min(c_miss · p_target, c_fa · (1 − p_target)), which makes 1.

    Arguments
    ---------
    scores, labels : np.ndarray
        (N,) scores and (N,) bool labels, True for a target.
    p_target : float
        Prior probability of a target, between 0 and 1; 0.01 and 0.05 are usual and not comparable.
    c_miss, c_fa : float
        Cost of a miss and of a false alarm.

    Returns
    -------
    tuple of float
        The normalised cost, in 0..1, and its threshold, which lies above every score when to reject
        all is best.

    Raises
    ------
    ValueError
        As :func:`equal_error_rate`, and when the prior or a cost is out of range.

    Example
    -------
    >>> scores, labels = np.array([0.9, 0.3, 0.5, 0.1]), np.array([1, 1, 0, 0], bool)
    >>> min_dcf(scores, labels, p_target=0.5)
    (0.5, 0.3)
    """
    return ErrorRates.from_scores(scores, labels).min_dcf(p_target, c_miss, c_fa)


def checked_scores(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give (N,) scores and bool labels as arrays, or raise ValueError when no rate can be had."""
    scores, labels = np.asarray(scores), np.asarray(labels, dtype=bool)
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must be (N,) both")
    if not np.isfinite(scores).all():
        bad = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"the score of trial {bad} is {scores[bad]}")
    targets = int(np.count_nonzero(labels))
    if targets == 0 or targets == len(labels):
        missing = "non-target" if targets else "target"
        raise ValueError(f"there is no {missing} among the {len(labels)} trials")
    return scores, labels


def _logit(rate: np.ndarray) -> np.ndarray:
    inside = np.clip(rate, 1e-9, 1.0 - 1e-9)
    return np.log(inside / (1.0 - inside))
