"""``spk score`` and ``spk calibrate``: trial lists, and decisions that are fitted on them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from speechbrain_ext.cli.options import (
    Json,
    Model,
    Precision,
    Threads,
    open_model,
    percent,
    tell,
)
from speechbrain_ext.decisions import QUALITIES, Decisions
from speechbrain_ext.errors import UserError, first_few
from speechbrain_ext.files import atomic_path
from speechbrain_ext.formats import AUDIO
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.runtime import SpeakerModel
from speechbrain_ext.verification.embeddings import Embeddings, load_embeddings
from speechbrain_ext.verification.lists import on_disk, root_paths
from speechbrain_ext.verification.metrics import PRIORS, ErrorRates
from speechbrain_ext.verification.quality import values_of
from speechbrain_ext.verification.scores import cosine_scores, write_scores
from speechbrain_ext.verification.trials import TrialList, read_trials

List = Annotated[
    Path, typer.Argument(help="Trials: 'label enrol test' or 'enrol test label' a line.")
]
Root = Annotated[Path, typer.Option(help="The folder that the names of the trials are below.")]


def score(
    trials: List,
    root: Root = Path(),
    embeddings: Annotated[
        Path | None, typer.Option(help="What embed made of the recordings, in place of --root.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write 'label enrol test score' a line.")
    ] = None,
    model: Model = None,
    precision: Precision = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Score a trial list by cosines, and say the error rates."""
    listed = read_trials(trials, root_paths(root))
    if embeddings is None:
        kept, _ = _embed(open_model(model, precision, threads), listed, root)
    else:
        kept = load_embeddings(embeddings)
    scores = cosine_scores(listed, kept)
    if out is not None:
        write_scores(out, listed, scores)
    rates = ErrorRates.from_scores(scores, listed.labels)
    eer, threshold = rates.equal_error_rate()
    costs = {str(prior): rates.min_dcf(prior)[0] for prior in PRIORS}
    facts = {
        "scale": "cosine",
        "targets": listed.targets,
        "nontargets": listed.nontargets,
        "eer": eer,
        "eer_threshold": threshold,
        "min_dcf": costs,
        "out": None if out is None else str(out),
    }
    shown = ", ".join(f"minDCF({prior}) {value:.3f}" for prior, value in costs.items())
    tell(
        as_json,
        facts,
        f"{listed.targets} targets, {listed.nontargets} non-targets; scores are cosines, -1 to 1",
        f"EER {100 * eer:.2f} % at {threshold:.3f}, {shown}",
    )


def calibrate(
    trials: List,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file that --decisions takes.")],
    root: Root = Path(),
    measure: Annotated[
        list[str] | None,
        typer.Option(help="What counts beside the score: duration, norm, cohort; may be repeated."),
    ] = None,
    model: Model = None,
    precision: Precision = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Fit log-likelihood ratios and thresholds on trials of your own recordings."""
    from speechbrain_ext.verification.calibration import fit_decisions

    measures = measure or []
    if unknown := sorted(set(measures).difference(QUALITIES)):
        raise UserError(
            f"--measure {unknown[0]} is none: give {', '.join(QUALITIES)}", code="bad-option"
        )
    speaker_model = open_model(model, precision, threads)
    cohort = speaker_model.cohort if "cohort" in measures else None
    listed = read_trials(trials, root_paths(root))
    kept, seconds = _embed(speaker_model, listed, root)
    scores = cosine_scores(listed, kept)
    values = values_of(listed, scores, kept, measures, seconds.__getitem__, cohort)
    fitted = fit_decisions(values, listed.labels, os.fspath(trials), _speakers(listed))
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(fitted.tree(), indent=1), encoding="utf-8")
    tell(as_json, fitted.tree(), f"{out}: to be given as --decisions", *decision_lines(fitted))


def decision_lines(decisions: Decisions) -> list[str]:
    """What a model decides by, in words."""
    on = decisions.fitted_on
    lines = [
        f"fitted on {on.get('title')}: {on.get('targets')} targets, {on.get('nontargets')} "
        f"non-targets of {on.get('speakers')} speakers"
    ]
    for point in decisions.operating_points:
        few = "" if point.supported else ", not supported by so few"
        name = "equal error rate" if point.name == "eer" else "false alarms"
        lines.append(
            f"{name} {percent(round(point.false_alarm, 4))}: cosine {point.threshold:.3f} "
            f"({point.trials} false alarms{few})"
        )
    if decisions.calibration is not None:
        weighed = ", ".join(decisions.calibration.weights)
        lines.append(f"log-likelihood ratio, natural logarithm, of {weighed}")
    return lines


def _embed(
    model: SpeakerModel, trials: TrialList, root: Path
) -> tuple[Embeddings, dict[str, float]]:
    """Embed every recording of the trials once; their seconds beside them."""
    paths = {name: _path(root, name) for name in trials.utterances}
    absent = [name for name, path in paths.items() if path is None]
    if absent:
        raise UserError(
            f"{len(absent)} recordings of the trials are not below {root}: {first_few(absent)}; "
            "give the folder that they are below by --root",
            code="missing-audio",
        )
    vectors, seconds = [], {}
    for name, path in progress_bar(paths.items(), desc="embedding", unit=" files"):
        heard = model.hear(path)
        vectors.append(heard.embedding)
        seconds[name] = heard.seconds
    return Embeddings(list(paths), np.stack(vectors), model.digest), seconds


def _path(root: Path, name: str) -> Path | None:
    """The file of an utterance, whatever its format."""
    stem = on_disk(os.path.join(root, name))
    for ending in AUDIO:
        for each in (ending, ending.upper()):
            path = Path(on_disk(stem + each))
            if path.is_file():
                return path
    return Path(stem) if os.path.isfile(stem) else None


def _speakers(trials: TrialList) -> int:
    """Persons in the trials: utterances that targets link are one person's."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = trials.enrol_index[trials.labels], trials.test_index[trials.labels]
    size = len(trials.names)
    links: Any = coo_array((np.ones(len(pairs[0])), pairs), shape=(size, size))
    return int(connected_components(links, directed=False)[0])
