"""What finished runs left in their folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from speechbrain_ext.compare.commands import Place
from speechbrain_ext.compare.plan import Run
from speechbrain_ext.compare.records import FINISHED, WAITING, Record
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.systems.experiment import WEIGHTS
from speechbrain_ext.verification.embeddings import load_embeddings
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.trials import TrialList


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Arguments
    ---------
    run : Run
        What it is.
    folder : Path
        Its experiment folder.
    record : Record
        When and where it was made.
    epochs : str
        The epochs whose weights were chosen, on the trials of held-out training speakers.
    valid_eer : float
        Their EER on these trials, %.
    share : float, optional
        Distillation's share of the loss in the last epoch.
    seconds : float
        Duration of the training, validation included.
    results : dict
        What score.py measured, by trial list.
    """

    run: Run
    folder: Path
    record: Record
    epochs: str
    valid_eer: float
    share: float | None
    seconds: float
    results: dict[str, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Trials:
    """A trial list of the corpus, with a number for the speaker on each side, (N,) each."""

    name: str
    title: str
    set: str
    list: TrialList
    enrol_speakers: np.ndarray
    test_speakers: np.ndarray


def collect(place: Place, runs: Sequence[Run], corpus: Corpus) -> tuple[list[Trained], list[Run]]:
    """The runs that are finished, and those that are not, in the order of the table."""
    trained: list[Trained] = []
    missing: list[Run] = []
    for run in runs:
        record = Record.read(place.record(run))
        folder = place.experiment(run.system.name, run.seed)
        try:
            if record.status != FINISHED:
                raise FileNotFoundError
            trained.append(_trained(run, folder, record, list(corpus.lists)))
        except (FileNotFoundError, SafetensorError, ValueError, LookupError, TypeError):
            missing.append(run)  # its files are not there, or not whole
    order = {name: place for place, name in enumerate(place.ablation.systems)}
    trained.sort(key=lambda each: (order[each.run.system.name], each.run.seed))
    missing.sort(key=lambda each: (order[each.system.name], each.seed))
    return trained, missing


def why_missing(place: Place, run: Run) -> tuple[str, str]:
    """The status of a run that is not finished, and the reason where one is known."""
    record = Record.read(place.record(run))
    if record.status == FINISHED:
        return WAITING, "files are gone or damaged: remove its folder, run again"
    return record.status, record.error


def read_list(corpus: Corpus, name: str) -> Trials:
    """Read a trial list and who speaks in it."""
    entry = corpus.lists[name]
    trials, numbers = corpus.trials(entry)
    sides = numbers[trials.enrol_index], numbers[trials.test_index]
    return Trials(name, entry["title"], entry["set"], trials, *sides)


def scores_of(trained: Sequence[Trained], trials: Trials) -> dict[str, dict[int, np.ndarray]]:
    """The scores (N,) of every run on a list, by system and seed."""
    scores: dict[str, dict[int, np.ndarray]] = {}
    for each in trained:
        embeddings = load_embeddings(each.folder / "embeddings" / f"{trials.set}.npz")
        own = scores.setdefault(each.run.system.name, {})
        own[each.run.seed] = cosine_scores(trials.list, embeddings)
    return scores


def _trained(run: Run, folder: Path, record: Record, lists: Sequence[str]) -> Trained:
    log = (folder / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    epochs = [json.loads(line) for line in log]
    weights = folder / WEIGHTS / "embedding_model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(weights)
    with safe_open(weights, "np") as file:
        about = file.metadata()
    chosen = json.loads(about["epochs"])
    by_number = {line["epoch"]: line for line in epochs}
    return Trained(
        run,
        folder,
        record,
        ", ".join(map(str, chosen)),
        float(np.mean([by_number[epoch]["valid"]["eer"] for epoch in chosen])),
        epochs[-1]["train"].get("share"),
        sum(line["train"]["seconds"] + line["valid"]["seconds"] for line in epochs),
        {
            name: json.loads((folder / "results" / f"{name}.json").read_text(encoding="utf-8"))
            for name in lists
        },
    )
