"""The figures of a scored trial list, and the files that keep them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechbrain_ext.files import atomic_path
from speechbrain_ext.verification.bootstrap import eer_interval
from speechbrain_ext.verification.metrics import PRIORS, ErrorRates
from speechbrain_ext.verification.plots import (
    DetCurve,
    det_plot,
    histogram_plot,
    reliability_plot,
    save_figure,
)
from speechbrain_ext.verification.scores import write_scores
from speechbrain_ext.verification.trials import TrialList

HISTOGRAM_BINS = 60


def write_result(
    folder: Path,
    stem: str,
    header: Mapping[str, Any],
    trials: TrialList,
    scores: np.ndarray,
    speakers: np.ndarray | None,
    weights: str,
    subtitle: str,
    others: Sequence[DetCurve] = (),
    calibrated: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], DetCurve]:
    """Measure a list and write ``scores/``, ``results/`` and ``plots/``.

    Arguments
    ---------
    folder : Path
        Where these folders are.
    stem : str
        Name of the files.
    header : mapping
        What the result says first; at least ``system``, ``title`` and ``scores``, which names
        their scale.
    trials : TrialList
        The N trials, with the names to write.
    scores : np.ndarray
        (N,) scores.
    speakers : np.ndarray, optional
        A number for the speaker of each name of the trials; without it, and with fewer than five
        speakers, there is no interval.
    weights : str
        Hash of the weights that the scores come from.
    subtitle : str
        Second line of the plots.
    others : sequence of DetCurve
        Further curves for the DET plot.
    calibrated : mapping, optional
        What :func:`~speechbrain_ext.verification.calibrated.measure_calibrated` found of the
        scores.

    Returns
    -------
    (dict, DetCurve)
        The result as written, and its curve.
    """
    rates = ErrorRates.from_scores(scores, trials.labels)
    figures = measure_trials(rates, scores, trials, speakers)
    result = {**header, **figures, "calibrated": calibrated, "weights_sha256": weights}
    curve = det_curve(header["system"], rates)
    write_scores(folder / "scores" / f"{stem}.txt", trials, scores)
    with atomic_path(folder / "results" / f"{stem}.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    det = det_plot([*others, curve], header["title"], subtitle)
    save_figure(det, folder / "plots" / f"{stem}_det")
    histogram = histogram_plot(
        **figures["histogram"],
        title=f"{header['title']}: {header['system']}",
        subtitle=subtitle,
        threshold=figures["eer_threshold"],
        scale=header["scores"],
    )
    save_figure(histogram, folder / "plots" / f"{stem}_scores")
    remove_plots(folder, f"{stem}_reliability")
    if calibrated is not None:
        plot = reliability_plot(calibrated["reliability"], header["title"], subtitle)
        save_figure(plot, folder / "plots" / f"{stem}_reliability")
    return result, curve


def remove_result(folder: Path, stem: str) -> None:
    """Remove what :func:`write_result` wrote, if it did.

    Example
    -------
    >>> remove_result(getfixture("tmp_path"), "test_fusion")
    """
    (folder / "results" / f"{stem}.json").unlink(missing_ok=True)
    (folder / "scores" / f"{stem}.txt").unlink(missing_ok=True)
    for plot in ("det", "scores", "reliability"):
        remove_plots(folder, f"{stem}_{plot}")


def remove_plots(folder: Path, stem: str) -> None:
    """Remove the drawings of a name, in every format."""
    for ending in (".png", ".svg"):
        (folder / "plots" / f"{stem}{ending}").unlink(missing_ok=True)


def measure_trials(
    rates: ErrorRates, scores: np.ndarray, trials: TrialList, speakers: np.ndarray | None
) -> dict[str, Any]:
    """The figures of one list, ready for JSON; see :func:`write_result`.

    Example
    -------
    >>> trials = TrialList.from_names(["a", "a"], ["b", "c"], [True, False])
    >>> rates = ErrorRates.from_scores(np.array([0.9, 0.1]), trials.labels)
    >>> figures = measure_trials(rates, np.array([0.9, 0.1]), trials, None)
    >>> figures["eer"], figures["eer_interval_95"], figures["min_dcf"]["0.01"]["value"]
    (0.0, None, 0.0)
    """
    eer, threshold = rates.equal_error_rate()
    interval = None
    if speakers is not None:
        bounds = eer_interval(
            scores, trials.labels, speakers[trials.enrol_index], speakers[trials.test_index]
        )
        interval = [100 * bound for bound in bounds] if bounds else None
    costs = {str(prior): rates.min_dcf(prior) for prior in PRIORS}
    false_alarm, miss = rates.curve(points=200)
    edges = np.histogram_bin_edges(scores, HISTOGRAM_BINS)
    return {
        "targets": trials.targets,
        "nontargets": trials.nontargets,
        "eer": 100 * eer,
        "eer_interval_95": interval,
        "eer_threshold": threshold,
        "min_dcf": {p: {"value": value, "threshold": at} for p, (value, at) in costs.items()},
        "det": {"false_alarm": false_alarm.tolist(), "miss": miss.tolist()},
        "histogram": {
            "edges": edges.tolist(),
            "target": np.histogram(scores[trials.labels], edges)[0].tolist(),
            "nontarget": np.histogram(scores[~trials.labels], edges)[0].tolist(),
        },
    }


def det_curve(name: str, rates: ErrorRates) -> DetCurve:
    """The curve of a system for a DET plot."""
    false_alarm, miss = rates.curve(points=200)
    return DetCurve(name, false_alarm, miss, rates.equal_error_rate()[0])
