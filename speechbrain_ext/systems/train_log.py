"""``train_log.jsonl`` of an experiment: what training notes of every epoch, a line each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechbrain_ext.errors import UserError

# Crops that could not be read, crops that were not learnt from, batches whose loss was not finite.
COUNTS = ("unreadable", "skipped", "nonfinite")
# Of the crops with a label: how many, and how many of them were given it.
LABELLED, CORRECT = "labelled", "correct"
# What a line's "train" holds besides terms of the loss.
NOT_A_TERM = {"share", "accuracy", "data_wait", "teacher_time", "seconds", "utterances", *COUNTS}
NOT_A_TERM |= {"peak_memory_gb"}


@dataclass(frozen=True)
class Figure:
    """A figure of validation by which a training can select its best epoch.

    Arguments
    ---------
    key : str
        Its name among a line's ``valid`` figures, and in what a checkpoint says of itself.
    words, form, unit : str
        Its name for readers, and how it is written.
    highest : bool
        Whether the highest is the best, which is 1 at most; otherwise the lowest is.
    """

    key: str
    words: str
    form: str
    unit: str = ""
    highest: bool = False

    def written(self, value: float) -> str:
        """The figure for readers.

        Example
        -------
        >>> EER.written(5.125), RANK_CORRELATION.written(0.75)
        ('5.12 %', '0.750')
        """
        return f"{value:{self.form}}{self.unit}"

    def cost(self, value: float) -> float:
        """The figure as a number of which the lowest is the best.

        Example
        -------
        >>> EER.cost(5.0), RANK_CORRELATION.cost(0.75)
        (5.0, 0.25)
        """
        return 1 - value if self.highest else value


#: Between held-out speakers; and between the scores of student and teacher.
EER = Figure("eer", "EER", ".2f", " %")
RANK_CORRELATION = Figure("rank_correlation", "rank correlation", ".3f", highest=True)
FIGURES = (EER, RANK_CORRELATION)


def figure_of(ranked: bool, classified: bool) -> Figure:
    """The figure by which a training selects.

    A student that learns from its teacher alone goes by its teacher in validation too.

    Arguments
    ---------
    ranked : bool
        Whether a teacher scored the trials of validation.
    classified : bool
        Whether a classifier of labelled speech is trained.

    Example
    -------
    >>> [figure_of(ranked=True, classified=each).words for each in (False, True)]
    ['rank correlation', 'EER']
    """
    return RANK_CORRELATION if ranked and not classified else EER


def selecting_figure(epochs: Sequence[Mapping[str, Any]]) -> Figure | None:
    """The figure by which a training selected, None where its log has none.

    Example
    -------
    >>> valid = {"eer": 5.0, "rank_correlation": 0.5}
    >>> selecting_figure([{"epoch": 1, "train": {"loss": 0.5}, "valid": valid}]).words
    'rank correlation'
    """
    classified = any("classification" in line.get("train", {}) for line in epochs)
    figure = figure_of(bool(_with(RANK_CORRELATION.key, epochs)), classified)
    return figure if _with(figure.key, epochs) else None


def read_train_log(path: Path, writer: str) -> list[dict[str, Any]]:
    """Read the lines by epoch; of an epoch logged twice (on resuming) the last counts.

    Arguments
    ---------
    path : Path
        The file.
    writer : str
        What writes it, for the message when it has not: ``stage 3 (the student)``.

    Returns
    -------
    list of dict
        One an epoch, in order.

    Raises
    ------
    UserError
        When there is no such file, no epoch in it, or a line that is no epoch's.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; run {writer} first.", code="earlier-stage")
    epochs: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                entry = json.loads(line)
                epochs[int(entry["epoch"])] = entry
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number}, is not the log of an epoch: {line[:60]}",
                    code="damaged-file",
                ) from error
    if not epochs:
        raise UserError(
            f"{path} holds no epoch yet; let {writer} finish first.", code="unfinished-training"
        )
    return [epochs[epoch] for epoch in sorted(epochs)]


def best_epoch(epochs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The epoch that was selected by held-out trials; of equal ones the last.

    It is the one whose weights training keeps, as SpeechBrain's checkpointer chooses.

    Arguments
    ---------
    epochs : sequence of mappings
        Lines of ``train_log.jsonl``.

    Returns
    -------
    mapping
        One of them; None where none has a figure to select by.

    Example
    -------
    >>> eers = enumerate((9, 5, 5), 1)
    >>> best_epoch([{"epoch": n, "train": {}, "valid": {"eer": eer}} for n, eer in eers])
    {'epoch': 3, 'train': {}, 'valid': {'eer': 5}}
    """
    figure = selecting_figure(epochs)
    if figure is None:
        return None
    key, cost = figure.key, figure.cost
    rated = _with(key, epochs)
    return min(rated, key=lambda epoch: (cost(epoch["valid"][key]), -epoch["epoch"]))


def _with(key: str, epochs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The epochs that have a figure of validation."""
    return [epoch for epoch in epochs if (epoch.get("valid") or {}).get(key) is not None]
