"""How good an epoch is: error rates of trials between held-out training speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.extraction import gather_embeddings
from speechbrain_ext.verification.embeddings import Embeddings
from speechbrain_ext.verification.metrics import equal_error_rate, min_dcf
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.trials import TrialList


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


def check_trials(path: str, trials: TrialList, manifest: str) -> None:
    """Refuse trials of utterances that will have no embedding.

    Arguments
    ---------
    path : str
        The list, for the message.
    trials : TrialList
        What it holds.
    manifest : str
        The utterances that are embedded.

    Raises
    ------
    UserError
        Naming one.
    """
    names = trials.utterances
    unknown = np.flatnonzero(read_manifest(manifest).ids.find(names) < 0)
    if len(unknown):
        raise UserError(
            f"{path}: {len(unknown)} utterances are not in {manifest}, {names[unknown[0]]} for "
            "one: run stage 1 again, which makes both"
        )


def valid_figures(trials: TrialList, mine: dict[str, np.ndarray]) -> dict[str, float] | None:
    """EER (%) and minDCF of an epoch; None when an embedding is not finite.

    Arguments
    ---------
    trials : TrialList
        Between utterances of held-out speakers.
    mine : dict
        Embedding (D,) by utterance, those of this process; all processes' are joined.
    """
    vectors = gather_embeddings(mine)
    embeddings = Embeddings(list(vectors), np.stack(list(vectors.values())), "")
    if not np.isfinite(embeddings.vectors).all():
        return None
    scores, labels = cosine_scores(trials, embeddings), trials.labels
    return {
        # Plain numbers: a checkpoint that holds others cannot be loaded.
        "eer": float(100 * equal_error_rate(scores, labels)[0]),
        "min_dcf_0.01": float(min_dcf(scores, labels, 0.01)[0]),
        "min_dcf_0.05": float(min_dcf(scores, labels, 0.05)[0]),
    }
