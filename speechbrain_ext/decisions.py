"""What a trained model decides by: operating points and the calibration of its scores.

It needs NumPy alone: the recipe writes it into a model folder, and the runtime reads it there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from speechbrain_ext.errors import UserError

SCORE = "score"
#: What a calibration may weigh beside the score: see :func:`trial_values`.
QUALITIES = ("duration", "norm", "cohort")
#: The rates that operating points are stored for, beside the equal error rate.
FALSE_ALARMS = (0.01, 0.001, 0.0001)
#: An operating point with fewer false alarms above its threshold is not supported.
LEAST_FALSE_ALARMS = 10
LEAST_NEAREST, MOST_NEAREST = 10, 300


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold of the cosine, and what it was found to give.

    Arguments
    ---------
    name : str
        ``eer``, or ``false_alarm_`` and the rate.
    false_alarm : float
        Share of trials of two speakers that it lets pass, in 0..1.
    threshold : float
        Scores at or above it are accepted.
    trials : int
        How many false alarms of the fit stand at or above it.
    supported : bool
        Whether these are ten or more; a rate from fewer says little about other recordings.
    """

    name: str
    false_alarm: float
    threshold: float
    trials: int
    supported: bool


@dataclass(frozen=True)
class Calibration:
    """An affine map from the values of a trial to a log-likelihood ratio.

    Arguments
    ---------
    bias : float
        Added to the weighted values.
    weights : dict of str to float
        Of ``score`` and of those of ``QUALITIES`` that are in use.
    p_target : float
        The prior that the fit was weighted to. The bias does not contain it.
    """

    bias: float
    weights: dict[str, float]
    p_target: float

    def llr(self, values: Mapping[str, Any]) -> Any:
        """Natural logarithm of how much likelier a trial is of one speaker than of two.

        Arguments
        ---------
        values : mapping of str to float or np.ndarray
            What :func:`trial_values` gives, each a number or (N,); at least those with a weight.

        Returns
        -------
        float or np.ndarray
            A number, or (N,).

        Raises
        ------
        KeyError
            When a value with a weight is missing.

        Example
        -------
        >>> calibration = Calibration(-4.0, {"score": 10.0, "duration": 0.5}, 0.05)
        >>> calibration.llr({"score": 0.6, "duration": 0.0})
        2.0
        >>> calibration.llr({"score": np.array([0.4, 0.2]), "duration": 2.0}).tolist()
        [1.0, -1.0]
        """
        return self.bias + sum(weight * values[name] for name, weight in self.weights.items())


@dataclass(frozen=True)
class Decisions:
    """What a model folder holds for decisions, under ``decisions`` in ``model.json``.

    Arguments
    ---------
    fitted_on : dict
        The trials of the fit: ``title``, ``targets``, ``nontargets``, ``speakers`` and the
        ``digest`` of their scores.
    calibration : Calibration, optional
        None where only operating points were stored.
    operating_points : tuple of OperatingPoint
        That of the equal error rate, and those of ``FALSE_ALARMS``.

    Example
    -------
    >>> point = OperatingPoint("false_alarm_0.01", 0.01, 0.31, 120, True)
    >>> calibration = Calibration(-4.0, {"score": 10.0}, 0.05)
    >>> decisions = Decisions({"title": "held-out speakers"}, calibration, (point,))
    >>> Decisions.read(decisions.tree()) == decisions
    True
    """

    fitted_on: dict[str, Any]
    calibration: Calibration | None
    operating_points: tuple[OperatingPoint, ...]

    @classmethod
    def read(
        cls, tree: Any, file: object = "the model", remedy: str = "export the model again"
    ) -> Decisions:
        """Make it of what :meth:`tree` gave, as JSON holds it.

        Arguments
        ---------
        tree : dict
            What JSON held.
        file : str or path
            Where, for errors.
        remedy : str
            What to do where it is damaged, likewise.

        Raises
        ------
        UserError
            When a part is missing, or is not what it should be.

        Example
        -------
        >>> Decisions.read({"calibration": {"bias": "high"}})
        Traceback (most recent call last):
        speechbrain_ext.errors.UserError: the decisions of the model cannot be read ('fitted_on'): \
export the model again
        """
        try:
            fitted_on, calibration = dict(tree["fitted_on"]), tree["calibration"]
            points = tuple(
                OperatingPoint(
                    str(each["name"]),
                    _finite(each["false_alarm"]),
                    _finite(each["threshold"]),
                    int(each["trials"]),
                    bool(each["supported"]),
                )
                for each in tree["operating_points"]
            )
            if calibration is not None:
                weights = {name: _finite(each) for name, each in calibration["weights"].items()}
                if unknown := sorted(set(weights).difference((SCORE, *QUALITIES))):
                    raise ValueError(f"nothing is called {unknown[0]}")
                calibration = Calibration(
                    _finite(calibration["bias"]), weights, _finite(calibration["p_target"])
                )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(
                f"the decisions of {file} cannot be read ({error}): {remedy}",
                code="damaged-file",
            ) from None
        return cls(fitted_on, calibration, points)

    def tree(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        tree = asdict(self)
        tree["operating_points"] = list(tree["operating_points"])
        return tree

    def at(self, false_alarm: float) -> OperatingPoint:
        """The operating point of a false-alarm rate, whether or not it is supported.

        Raises
        ------
        UserError
            When none is stored for that rate; it names those that are.

        Example
        -------
        >>> point = OperatingPoint("false_alarm_0.01", 0.01, 0.31, 120, True)
        >>> decisions = Decisions({}, None, (point,))
        >>> decisions.at(0.01).threshold
        0.31
        >>> decisions.at(0.02)
        Traceback (most recent call last):
        speechbrain_ext.errors.UserError: the model has no threshold for the rate 0.02: \
ask for 0.01
        """
        rates = {
            each.false_alarm: each
            for each in self.operating_points
            if each.name.startswith("false_alarm")
        }
        for rate, point in rates.items():
            if math.isclose(rate, false_alarm, rel_tol=1e-6):
                return point
        known = " or ".join(f"{rate:g}" for rate in rates)
        raise UserError(
            f"the model has no threshold for the rate {false_alarm:g}: "
            + (f"ask for {known}" if rates else "give a threshold of your own"),
            code="no-threshold",
        )


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not finite")
    return number


def bayes_threshold(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """The log-likelihood ratio from which on to accept costs least.

    Arguments
    ---------
    p_target : float
        Prior probability that both sides are one speaker, between 0 and 1.
    c_miss, c_fa : float
        Cost of rejecting one speaker, and of accepting two; above 0.

    Raises
    ------
    UserError
        When one of them is out of range.

    Example
    -------
    >>> bayes_threshold(0.5)
    0.0
    >>> round(bayes_threshold(0.01), 3)
    4.595
    >>> bayes_threshold(1.0)
    Traceback (most recent call last):
    speechbrain_ext.errors.UserError: the prior p_target is 1.0: give a number between 0 and 1
    """
    if not 0.0 < p_target < 1.0:
        raise UserError(
            f"the prior p_target is {p_target}: give a number between 0 and 1", code="bad-option"
        )
    for name, cost in (("c_miss", c_miss), ("c_fa", c_fa)):
        if not 0.0 < cost < math.inf:
            raise UserError(f"the cost {name} is {cost}: give a number above 0", code="bad-option")
    return math.log(c_fa * (1.0 - p_target)) - math.log(c_miss * p_target)


def default_top_n(members: int) -> int:
    """How many of a cohort count for an utterance: a fifth, 10 at least and 300 at most.

    Example
    -------
    >>> [default_top_n(members) for members in (12, 60, 1000, 6000)]
    [10, 12, 200, 300]
    """
    return max(LEAST_NEAREST, min(MOST_NEAREST, members // 5))


def cohort_value(unit_embedding: np.ndarray, cohort: np.ndarray, top_n: int) -> Any:
    """Mean cosine of an embedding with those of a cohort that it is most similar to.

    Arguments
    ---------
    unit_embedding : np.ndarray
        (D,) or (N, D), of length 1.
    cohort : np.ndarray
        (M, D), one row a member, of length 1.
    top_n : int
        How many members count; all of them where there are no more.

    Returns
    -------
    float or np.ndarray
        A number, or (N,) float64.

    Example
    -------
    >>> cohort = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> round(cohort_value(np.array([1.0, 0.0]), cohort, top_n=2), 3)
    0.8
    """
    cosines = np.atleast_2d(unit_embedding) @ cohort.astype(unit_embedding.dtype, copy=False).T
    if top_n < len(cohort):
        cosines = np.partition(cosines, len(cohort) - top_n, axis=1)[:, -top_n:]
    means = cosines.mean(axis=1, dtype=np.float64)
    return means if unit_embedding.ndim == 2 else float(means[0])


def trial_values(
    score: Any,
    *,
    seconds: tuple[Any, Any] | None = None,
    norms: tuple[Any, Any] | None = None,
    cohort: tuple[Any, Any] | None = None,
) -> dict[str, Any]:
    """The values of trials that a calibration weighs; both sides count alike.

    Arguments
    ---------
    score : float or np.ndarray
        Cosine of the two embeddings; a number or (N,), as all that follows.
    seconds : tuple, optional
        Of audio on the two sides, all of it, speech or not. ``duration`` is the logarithm of the
        shorter one.
    norms : tuple, optional
        Lengths of the two embeddings as the network gives them. ``norm`` is the logarithm of the
        smaller one.
    cohort : tuple, optional
        :func:`cohort_value` of the two sides. ``cohort`` is their mean.

    Example
    -------
    >>> trial_values(0.5, seconds=(1.0, 3.0), cohort=(0.25, 0.75))
    {'score': 0.5, 'duration': 0.0, 'cohort': 0.5}
    """
    values = {SCORE: score}
    if seconds is not None:
        values["duration"] = _number(np.log(np.minimum(*seconds)))
    if norms is not None:
        values["norm"] = _number(np.log(np.minimum(*norms)))
    if cohort is not None:
        values["cohort"] = 0.5 * (cohort[0] + cohort[1])
    return values


def _number(value: Any) -> Any:
    return value if np.ndim(value) else float(value)
