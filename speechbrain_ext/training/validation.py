"""How good an epoch is: error rates of trials between held-out training speakers."""

from __future__ import annotations

import numpy as np

from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.extraction import gather_embeddings
from speechbrain_ext.verification.embeddings import Embeddings
from speechbrain_ext.verification.metrics import equal_error_rate, min_dcf
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.trials import TrialList


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
