#!/usr/bin/env python3
"""Score the trial lists of a corpus with the embeddings of an experiment, or of embed.py.

    python score.py EXPERIMENT --manifests data/mini/manifests --fuse TEACHER_EXPERIMENT
    python score.py embeddings/recordings --manifests data/mini/manifests --trials test

The folder is an experiment whose embeddings extract.py wrote, or one that embed.py filled. For each
list it gets `scores/<trials>.txt`, `results/<trials>.json`, `plots/<trials>_det` and
`plots/<trials>_scores` (PNG and SVG). With `--fuse` the mean of both systems' scores is measured as
well, as `<trials>_fusion`. With `--enrol_with` a teacher enrols, and its student verifies, as
`<trials>_enrolled`. Without them, such files of an earlier call are removed.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.decisions import LEAST_NEAREST
from speechbrain_ext.errors import UserError, friendly_exit
from speechbrain_ext.inference.embed_folder import TOGETHER
from speechbrain_ext.inference.options import add_norm_options, check_norm_options
from speechbrain_ext.inference.provenance import system_name
from speechbrain_ext.systems.experiment import kept_sha256
from speechbrain_ext.terminal import print_table
from speechbrain_ext.verification.comparison import Comparison
from speechbrain_ext.verification.draws import NO_INTERVAL
from speechbrain_ext.verification.embeddings import COHORT, Embeddings, load_embeddings
from speechbrain_ext.verification.lists import ENROLLED, FUSION, NORMALIZED
from speechbrain_ext.verification.metrics import ErrorRates
from speechbrain_ext.verification.plots import DetCurve
from speechbrain_ext.verification.results import (
    PRIORS,
    det_curve,
    remove_result,
    write_result,
)
from speechbrain_ext.verification.score_norm import COSINE, Cohort, normalized_scores
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.tables import cells_of
from speechbrain_ext.verification.trials import TrialList


class System:
    """A folder whose embeddings are scored.

    It is an experiment ``exp/<corpus>/<system>/seed_<n>``, which has a file of embeddings for each
    set, or a folder that embed.py filled, which has one for all.
    """

    def __init__(self, folder: Path, manifests: Path) -> None:
        if not folder.is_dir():
            raise UserError(
                f"{folder}: there is no such experiment folder; train the system first.",
                code="missing-folder",
            )
        self.folder, self.manifests = folder, manifests
        self._sets: dict[str, Embeddings] = {}
        together = folder / TOGETHER
        self._together = load_embeddings(together) if together.is_file() else None
        if self._together is None:
            self.name = folder.resolve().parent.name
        else:
            model = self._together.provenance.get("model", folder)
            self.name = system_name(Path(str(model)))

    def embeddings(self, set_name: str) -> Embeddings:
        """The embeddings of a set, read once."""
        if self._together is not None:
            return self._together
        if set_name not in self._sets:
            path = self.folder / "embeddings" / f"{set_name}.npz"
            if not path.is_file():
                command = ["python", "extract.py", str(self.folder)]
                command += ["--manifests", str(self.manifests), "--sets", set_name]
                raise UserError(
                    f"{path} is missing: extract.py (stage 4) makes it; "
                    f"run `{shlex.join(command)}` first.",
                    code="earlier-stage",
                )
            embeddings, kept = load_embeddings(path), kept_sha256(self.folder)
            if kept is not None and kept != embeddings.weights_sha256:
                raise UserError(
                    f"{path} was made with other weights than {self.folder} has by now: run "
                    "extract.py (stage 4) again, which makes it anew.",
                    code="other-weights",
                )
            self._sets[set_name] = embeddings
        return self._sets[set_name]

    def cohort(self, path: Path | None, norm: str, nearest: int | None) -> Cohort | None:
        """Those who normalise this system's scores: of a file, or its own training speakers.

        None where these are too few, which is said.
        """
        if path is None and self._together is not None:
            raise UserError(
                f"--score_norm {norm} needs --cohort, a file of embeddings: {self.folder} was "
                "filled by embed.py and knows no training speakers.",
                code="missing-option",
            )
        own = path is None
        path = path or self.folder / "embeddings" / f"{COHORT}.npz"
        command = ["python", "extract.py", str(self.folder)]
        command += ["--manifests", str(self.manifests), "--cohort"]
        if own and not path.is_file():
            raise UserError(
                f"{path} is missing: run `{shlex.join(command)}` first.", code="earlier-stage"
            )
        members = load_embeddings(path)
        if own and members.weights_sha256 != (kept_sha256(self.folder) or members.weights_sha256):
            raise UserError(
                f"{path} was made with other weights than {self.folder} has by now: run "
                f"`{shlex.join(command)}`, which makes it anew.",
                code="other-weights",
            )
        if own and len(members) < LEAST_NEAREST:
            print(
                f"Scores are not normalised: {len(members)} training speakers are no cohort, which "
                f"needs {LEAST_NEAREST}."
            )
            return None
        with about(str(path)):
            return Cohort.of(members, norm, nearest)

    def check_has_all(self, corpus: Corpus) -> None:
        """Refuse to score every list of a corpus with a folder of embed.py that lacks some."""
        if self._together is None:
            return
        ids = set(self._together.ids)
        lists = {name: corpus.trials(entry)[0] for name, entry in corpus.lists.items()}
        lacking = [name for name, trials in lists.items() if not ids.issuperset(trials.utterances)]
        if lacking:
            rest = [name for name in lists if name not in lacking]
            remedy = (
                f"give --trials {' '.join(rest)}"
                if rest
                else "embed the folder that their names are below"
            )
            raise UserError(
                f"{self.folder} lacks embeddings of utterances in the trial lists "
                f"{', '.join(lacking)} of {corpus.manifests}: {remedy}",
                code="missing-embedding",
            )


def score_list(
    corpus: Corpus,
    entry: dict[str, Any],
    student: System,
    teacher: System | None,
    enroller: System | None,
    cohort: Cohort | None,
) -> list[dict[str, Any]]:
    """Score one list; write everything; give the results of all that was asked for."""
    path = corpus.manifests / entry["file"]
    trials, speakers = corpus.trials(entry)
    common: dict[str, Any] = {
        "trials": entry["name"],
        "title": entry["title"],
        "corpus": corpus.name,
        "synthetic": corpus.synthetic,
        "set": entry["set"],
    }
    subtitle = corpus.described

    def keep(
        system: str,
        stem: str,
        scores: np.ndarray,
        weights: str,
        others: Sequence[DetCurve] = (),
        scale: str = COSINE,
    ) -> tuple[dict[str, Any], DetCurve]:
        header = {"system": system, **common, "scores": scale}
        return write_result(
            student.folder, stem, header, trials, scores, speakers, weights, subtitle, others
        )

    scores, weights = _scores_of(student, entry, path, trials)
    # What is not scored now would be of weights that nobody looks at again.
    asked = {NORMALIZED: cohort, FUSION: teacher, ENROLLED: enroller}
    for ending, other in asked.items():
        if other is None:
            remove_result(student.folder, entry["name"] + ending)
    result, curve = keep(student.name, entry["name"], scores, weights)
    results = [result]
    if cohort is not None:
        embeddings = student.embeddings(entry["set"])
        with about(f"{path} with the embeddings of {student.folder} and its cohort"):
            normalized = normalized_scores(trials, scores, embeddings, cohort)
        stem = entry["name"] + NORMALIZED
        name = f"{student.name}, {cohort.norm}"
        results.append(keep(name, stem, normalized, weights, [curve], cohort.described)[0])
    if enroller is not None:
        enrolled, both = _scores_of(student, entry, path, trials, enroller)
        name = f"{student.name}, {enroller.name} enrols"
        results.append(keep(name, entry["name"] + ENROLLED, enrolled, both, [curve])[0])
    if teacher is None:
        return results
    teacher_scores, teacher_weights = _scores_of(teacher, entry, path, trials)
    rates = ErrorRates.from_scores(teacher_scores, trials.labels)
    teacher_curve = det_curve(teacher.name, rates)
    common["difference"] = _difference(trials, speakers, scores, teacher_scores)
    fusion, _ = keep(
        f"{student.name}+{teacher.name}",
        entry["name"] + FUSION,
        (scores + teacher_scores) / 2,
        f"{weights}+{teacher_weights}",
        others=[teacher_curve, curve],
    )
    return [*results, fusion]


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


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Say in an error what it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}", code=error.code) from None


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
    args = parser.parse_args(arguments)
    check_norm_options(args)

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
    results: list[dict[str, Any]] = []
    for entry in corpus.chosen(args.trials):
        results += score_list(corpus, entry, student, teacher, enroller, cohort)
    print_results(corpus, results)


if __name__ == "__main__":
    with friendly_exit():
        main()
