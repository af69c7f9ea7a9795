#!/usr/bin/env python3
"""Score the trial lists of a corpus with the embeddings of an experiment, or of embed.py.

    python score.py EXPERIMENT --manifests data/mini/manifests --fuse TEACHER_EXPERIMENT
    python score.py embeddings/recordings --manifests data/mini/manifests --trials test

The folder is an experiment whose embeddings extract.py wrote, or one that embed.py filled. For each
list it gets `scores/<trials>.txt`, `results/<trials>.json`, and `plots/<trials>_det`, `_scores` and
`_reliability` (PNG and SVG). With `--fuse` the mean of both systems' scores is measured as well, as
`<trials>_fusion`. With `--enrol_with` a teacher enrols, and its student verifies, as
`<trials>_enrolled`. Without them, such files of an earlier call are removed.

Scores are calibrated on the trials of the training speakers who are held out, and on no test list.
What is fitted is kept in `decisions.json`, which evaluate.py and export.py read. `--calibration`
says what it is made of. Normalised and joint scores are calibrated each on their own scale, by the
score alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.decisions import SCORE, Decisions
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.inference.options import (
    add_calibration_option,
    add_norm_options,
    calibration_qualities,
    check_norm_options,
)
from speechbrain_ext.inference.system import System, about
from speechbrain_ext.terminal import print_table
from speechbrain_ext.verification.calibrated import measure_calibrated
from speechbrain_ext.verification.calibration import (
    cross_validated_llr,
    fit_decisions,
)
from speechbrain_ext.verification.comparison import Comparison
from speechbrain_ext.verification.draws import NO_INTERVAL
from speechbrain_ext.verification.fitted import Fitted, keep_decisions
from speechbrain_ext.verification.lists import ENROLLED, FUSION, NORMALIZED
from speechbrain_ext.verification.metrics import PRIORS, ErrorRates
from speechbrain_ext.verification.plots import DetCurve
from speechbrain_ext.verification.quality import values_of
from speechbrain_ext.verification.results import det_curve, remove_result, write_result
from speechbrain_ext.verification.score_norm import COSINE, Cohort, normalized_scores
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.tables import calibrated_table, calibration_note, cells_of
from speechbrain_ext.verification.trials import TrialList

# For want of these there are no calibrated figures, and all others still are.
UNCALIBRATED = (
    "few-trials",
    "few-speakers",
    "earlier-stage",
    "missing-embedding",
    "other-weights",
)


class Scored(NamedTuple):
    """The scores of a list on one scale, and how its results are called."""

    ending: str
    system: str
    values: dict[str, np.ndarray]
    weights: str
    scale: str = COSINE
    teacher: np.ndarray | None = None  # (N,) its own scores, where they are fused

    @property
    def scores(self) -> np.ndarray:
        """(N,)"""
        return self.values[SCORE]


class Scorer:
    """What is scored, and how: the systems, the cohort and the calibration."""

    def __init__(
        self,
        corpus: Corpus,
        student: System,
        teacher: System | None,
        enroller: System | None,
        cohort: Cohort | None,
        qualities: tuple[str, ...],
    ) -> None:
        self.corpus, self.student, self.qualities = corpus, student, qualities
        self.teacher, self.enroller, self.cohort = teacher, enroller, cohort
        self.members = student.unit_cohort() if "cohort" in qualities else None

    def scored(self, entry: dict[str, Any], trials: TrialList) -> list[Scored]:
        """The scores of a list on every scale that was asked for, the system's own first."""
        path, student = self.corpus.manifests / entry["file"], self.student
        scores, weights = _scores_of(student, entry, path, trials)
        embeddings = student.embeddings(entry["set"])
        seconds = self.corpus.seconds(entry["set"]) if "duration" in self.qualities else {}
        values = values_of(
            trials, scores, embeddings, self.qualities, seconds.__getitem__, self.members
        )
        found = [Scored("", student.name, values, weights)]
        if self.cohort is not None:
            with about(f"{path} with the embeddings of {student.folder} and its cohort"):
                normalized = normalized_scores(trials, scores, embeddings, self.cohort)
            name, scale = f"{student.name}, {self.cohort.norm}", self.cohort.described
            found.append(Scored(NORMALIZED, name, {SCORE: normalized}, weights, scale))
        if self.enroller is not None:
            enrolled, both = _scores_of(student, entry, path, trials, self.enroller)
            name = f"{student.name}, {self.enroller.name} enrols"
            found.append(Scored(ENROLLED, name, {SCORE: enrolled}, both))
        if self.teacher is not None:
            others, other_weights = _scores_of(self.teacher, entry, path, trials)
            name, both = f"{student.name}+{self.teacher.name}", f"{weights}+{other_weights}"
            fused = {SCORE: (scores + others) / 2}
            found.append(Scored(FUSION, name, fused, both, teacher=others))
        return found

    def fit(self) -> dict[str, Decisions]:
        """Calibrate every scale on the held-out training speakers alone.

        Empty where nothing can be fitted, which is said.
        """
        entry = self.corpus.held_out
        try:
            if entry is None:
                raise UserError("the corpus holds no training speakers out", code="few-speakers")
            trials, speakers = self.corpus.trials(entry)
            persons = len(np.unique(speakers))
            return {
                each.ending: fit_decisions(each.values, trials.labels, entry["title"], persons)
                for each in self.scored(entry, trials)
            }
        except UserError as error:
            if error.code not in UNCALIBRATED:
                raise
            print(f"Scores are not calibrated: {error}")
            return {}

    def score_list(
        self, entry: dict[str, Any], fitted: Mapping[str, Decisions]
    ) -> list[dict[str, Any]]:
        """Score one list; write everything; give the results of all that was asked for."""
        corpus, folder = self.corpus, self.student.folder
        trials, speakers = corpus.trials(entry)
        # What is not scored now would be of weights that nobody looks at again.
        asked = {NORMALIZED: self.cohort, FUSION: self.teacher, ENROLLED: self.enroller}
        for ending in [ending for ending, other in asked.items() if other is None]:
            remove_result(folder, entry["name"] + ending)
        results: list[dict[str, Any]] = []
        curves: list[DetCurve] = []
        scored = self.scored(entry, trials)
        for each in scored:
            header: dict[str, Any] = {
                "system": each.system,
                "trials": entry["name"],
                "title": entry["title"],
                "corpus": corpus.name,
                "synthetic": corpus.synthetic,
                "set": entry["set"],
                "scores": each.scale,
            }
            others = list(curves)
            if self.teacher is not None and each.teacher is not None:
                header["difference"] = _difference(trials, speakers, scored[0].scores, each.teacher)
                rates = ErrorRates.from_scores(each.teacher, trials.labels)
                others.insert(0, det_curve(self.teacher.name, rates))
            calibrated = None
            if each.ending in fitted:
                calibrated = self._calibrated(entry, fitted[each.ending], each, trials, speakers)
            result, curve = write_result(
                folder,
                entry["name"] + each.ending,
                header,
                trials,
                each.scores,
                speakers,
                each.weights,
                corpus.described,
                others,
                calibrated,
            )
            results.append(result)
            curves = curves or [curve]
        return results

    def _calibrated(
        self,
        entry: dict[str, Any],
        decisions: Decisions,
        each: Scored,
        trials: TrialList,
        speakers: np.ndarray,
    ) -> dict[str, Any] | None:
        """What the fit gives on a list; cross-validated on the very speakers of the fit."""
        assert decisions.calibration is not None
        own = entry == self.corpus.held_out
        if own:
            sides = speakers[trials.enrol_index], speakers[trials.test_index]
            try:
                llr = cross_validated_llr(each.values, trials.labels, *sides)
            except UserError:  # the only one: too few for several fits
                return None
        else:
            llr = decisions.calibration.llr(each.values)
        return measure_calibrated(decisions, llr, trials, each.scores, speakers, own)


def _difference(
    trials: TrialList, speakers: np.ndarray | None, scores: np.ndarray, others: np.ndarray
) -> dict[str, Any]:
    """EER of the system less the other's, in points, with its 95 % interval where it has one."""
    # Without speakers everybody is one, and there is no interval.
    own = np.zeros(len(trials.names), dtype=int) if speakers is None else speakers
    systems = {"own": {0: scores}, "other": {0: others}}
    sides = own[trials.enrol_index], own[trials.test_index]
    difference = Comparison(systems, trials.labels, *sides).difference("own", "other")
    assert difference is not None  # both have the run
    interval = None if difference.low is None else [difference.low, difference.high]
    return {"eer": difference.value, "interval_95": interval}


def print_results(corpus: Corpus, results: Sequence[dict[str, Any]]) -> None:
    """Show what the results files hold."""
    table = Table("trials", "system", title=corpus.described, box=SIMPLE)
    for heading in ("EER %", "95 % interval", *(f"minDCF\n{prior}" for prior in PRIORS)):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        table.add_row(result["trials"], result["system"], *cells_of(result))
    print_table(table)
    if any(result["eer_interval_95"] is None for result in results):
        Console().print(NO_INTERVAL)
    if note := calibration_note(results):
        print_table(calibrated_table(results, {"trials": "trials", "system": "system"}))
        Console().print(note)


def _scores_of(
    system: System,
    entry: dict[str, Any],
    path: Path,
    trials: TrialList,
    enroller: System | None = None,
) -> tuple[np.ndarray, str]:
    embeddings = system.embeddings(entry["set"])
    enrol = None if enroller is None else enroller.embeddings(entry["set"])
    folders, weights = str(system.folder), embeddings.weights_sha256
    if enroller is not None and enrol is not None:
        folders += f" and {enroller.folder}"
        weights += f"+{enrol.weights_sha256}"
    with about(f"{path} with the embeddings of {folders}"):
        return cosine_scores(trials, embeddings, enrol), weights


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and score."""
    parser = argparse.ArgumentParser(description="Score trial lists and measure EER and minDCF.")
    parser.add_argument(
        "experiment",
        type=Path,
        help="folder that extract.py or embed.py filled",
    )
    parser.add_argument("--manifests", type=Path, required=True, help="folder made by stage 1")
    parser.add_argument(
        "--trials", nargs="+", metavar="NAME", help="lists to score; all by default"
    )
    parser.add_argument("--fuse", type=Path, metavar="DIR", help="experiment folder of the teacher")
    parser.add_argument(
        "--enrol_with", type=Path, metavar="DIR", help="experiment folder whose embeddings enrol"
    )
    add_norm_options(parser, "; those of the experiment by default")
    add_calibration_option(parser)
    args = parser.parse_args(arguments)
    check_norm_options(args)
    qualities = calibration_qualities(args)

    corpus = Corpus.read(args.manifests)
    student = System(args.experiment, args.manifests)
    teacher = System(args.fuse, args.manifests) if args.fuse else None
    enroller = System(args.enrol_with, args.manifests) if args.enrol_with else None
    cohort = None
    if args.score_norm != "none":
        cohort = student.cohort(args.cohort, args.score_norm, args.top_n)
    if not args.trials:
        for system in filter(None, (student, teacher, enroller)):
            system.check_has_all(corpus)
    scorer = Scorer(corpus, student, teacher, enroller, cohort, qualities or ())
    fitted = {} if qualities is None else scorer.fit()
    results: list[dict[str, Any]] = []
    for entry in corpus.chosen(args.trials):
        results += scorer.score_list(entry, fitted)
    weights = results[0]["weights_sha256"]
    own = Fitted(fitted[""], scorer.members) if fitted else None
    keep_decisions(student.folder, own, weights)
    print_results(corpus, results)


if __name__ == "__main__":
    with friendly_exit():
        main()
