"""The table of calibrated scores: what they cost, and what a stored threshold gives."""

from __future__ import annotations

from speechbrain_ext.report.records import Experiment
from speechbrain_ext.report.table import systems_of
from speechbrain_ext.verification.tables import (
    CALIBRATED_HEADINGS,
    calibrated_cells,
    calibration_note,
)


def calibration_table(experiment: Experiment) -> list[list[str]]:
    """Headings, then a row a trial list and system; empty where no scores are calibrated."""
    rows = []
    for name in experiment.lists:
        scores = experiment.rows(name)
        for role, system, _ in systems_of(experiment):
            score = scores.get(role)
            if score is not None and score.calibrated is not None:
                trials = [score.title] if len(experiment.lists) > 1 else []
                rows.append([system, *trials, *calibrated_cells(score.calibrated)])
    if not rows:
        return []
    named = ["System", "Trials"] if len(experiment.lists) > 1 else ["System"]
    return [[*named, *CALIBRATED_HEADINGS], *rows]


def calibration_words(experiment: Experiment) -> str:
    """What the calibration was fitted on, in a sentence or two; empty where there is none."""
    scores = [experiment.student.scores[name] for name in experiment.lists]
    scores += [score for name in experiment.lists for score in experiment.rows(name).values()]
    return calibration_note([{"calibrated": score.calibrated} for score in scores])
