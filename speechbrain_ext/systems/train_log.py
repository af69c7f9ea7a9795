"""``train_log.jsonl`` of an experiment: what training notes of every epoch, a line each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechbrain_ext.errors import UserError

# Crops that could not be read, crops that were not learnt from, batches whose loss was not finite.
COUNTS = ("unreadable", "skipped", "nonfinite")
# What a line's "train" holds besides terms of the loss.
NOT_A_TERM = {"share", "accuracy", "data_wait", "teacher_time", "seconds", "utterances", *COUNTS}
NOT_A_TERM |= {"peak_memory_gb"}


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
    """The epoch with the lowest EER of held-out trials; of equal ones the last.

    It is the one whose weights training keeps, as SpeechBrain's checkpointer chooses.

    Arguments
    ---------
    epochs : sequence of mappings
        Lines of ``train_log.jsonl``.

    Returns
    -------
    mapping
        One of them; None where none has an EER.

    Example
    -------
    >>> best_epoch([{"epoch": n, "valid": {"eer": eer}} for n, eer in ((1, 9), (2, 5), (3, 5))])
    {'epoch': 3, 'valid': {'eer': 5}}
    """
    rated = [epoch for epoch in epochs if (epoch.get("valid") or {}).get("eer") is not None]
    return min(rated, key=lambda epoch: (epoch["valid"]["eer"], -epoch["epoch"]), default=None)
