"""A decision on two recordings, and what it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from speechbrain_ext.decisions import Calibration, Decisions, bayes_threshold
from speechbrain_ext.errors import UserError

COSINE, LLR = "cosine", "log-likelihood ratio"


@dataclass(frozen=True)
class Decision:
    """Whether two recordings are of one speaker.

    Arguments
    ---------
    score : float
        Cosine of the two embeddings, in -1..1.
    llr : float or None
        Log-likelihood ratio, natural; None where the model has no calibration.
    same : bool
        Whether they are taken for one speaker.
    threshold : float
        At or above it they are.
    scale : str
        What the threshold is of: ``cosine`` or ``log-likelihood ratio``.
    operating_point : str
        How it was chosen: ``false_alarm_0.01`` and the like, ``p_target 0.01 …``, or ``given``.
    seconds_of_speech : (float, float)
        In the two recordings.
    supported : bool
        Whether enough false alarms stand behind the threshold; see
        :class:`~speechbrain_ext.decisions.OperatingPoint`.
    vad : str
        What told speech: ``silero`` or ``energy``.
    """

    score: float
    llr: float | None
    same: bool
    threshold: float
    scale: str
    operating_point: str
    seconds_of_speech: tuple[float, float]
    supported: bool
    vad: str


@dataclass(frozen=True)
class Threshold:
    """A threshold, of what, how it was chosen, and whether enough stands behind it."""

    value: float
    scale: str
    operating_point: str
    supported: bool


def choose_threshold(
    decisions: Decisions | None,
    false_alarm: float = 0.01,
    p_target: float | None = None,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    threshold: float | None = None,
) -> Threshold:
    """The threshold that a caller asks for.

    Arguments
    ---------
    decisions : Decisions, optional
        Of the model.
    false_alarm : float
        Of an operating point of the model, for cosines.
    p_target : float, optional
        Prior probability of one speaker: then the threshold is of log-likelihood ratios.
    c_miss, c_fa : float
        Costs that go with it.
    threshold : float, optional
        A cosine of the caller's own, in place of all that.

    Raises
    ------
    UserError
        When the model has nothing to decide by, a number is none to decide by, or there are two
        things to decide by, or costs without a prior.

    Example
    -------
    >>> choose_threshold(None, threshold=0.4).operating_point
    'given'
    >>> choose_threshold(None)
    Traceback (most recent call last):
    speechbrain_ext.errors.UserError: the model has no operating points, since its recipe has \
scored no speakers held out: give a threshold, or calibrate the model on trials of your own
    """
    if p_target is None and (c_miss, c_fa) != (1.0, 1.0):
        raise UserError(
            "the costs c_miss and c_fa decide together with a prior: give p_target, too, or "
            "leave them out",
            code="missing-option",
        )
    if p_target is not None and threshold is not None:
        raise UserError(
            "a threshold and a prior p_target are two ways to decide: give one of them",
            code="bad-option",
        )
    if threshold is not None:
        if not math.isfinite(threshold):
            raise UserError(f"the threshold is {threshold}: give a number", code="bad-option")
        return Threshold(threshold, COSINE, "given", True)
    if p_target is not None:
        calibration_of(decisions)
        cost = f"p_target {p_target:g} c_miss {c_miss:g} c_fa {c_fa:g}"
        return Threshold(bayes_threshold(p_target, c_miss, c_fa), LLR, cost, True)
    if decisions is None:
        raise UserError(
            "the model has no operating points, since its recipe has scored no speakers held out: "
            "give a threshold, or calibrate the model on trials of your own",
            code="no-threshold",
        )
    point = decisions.at(false_alarm)
    return Threshold(point.threshold, COSINE, point.name, point.supported)


def calibration_of(decisions: Decisions | None) -> Calibration:
    """What makes log-likelihood ratios of scores.

    Raises
    ------
    UserError
        When there is none.
    """
    if decisions is None or decisions.calibration is None:
        raise UserError(
            "the model has no calibration, which a prior needs: ask for a false-alarm rate, or "
            "calibrate the model on trials of your own",
            code="no-threshold",
        )
    return decisions.calibration
