"""Embeddings of some speakers in two dimensions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from sklearn import __version__ as sklearn_version
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from speechbrain_ext.errors import UserError
from speechbrain_ext.report.collect import embeddings_path
from speechbrain_ext.report.records import TrainedSystem
from speechbrain_ext.verification.embeddings import BrokenEmbeddings, read_embeddings

SPEAKERS = 20
UTTERANCES = 30
SEED = 0
FEWEST_FOR_TSNE = 12


@dataclass(frozen=True)
class Projection:
    """Points (N, 2), the speaker of each as an index into ``speakers``, and how they were made."""

    points: np.ndarray
    speaker: np.ndarray
    speakers: list[str]
    method: str


def load_vectors(
    system: TrainedSystem, name: str, lists: list[str]
) -> tuple[list[str], np.ndarray]:
    """Read the embeddings of one set.

    Arguments
    ---------
    system : TrainedSystem
        Whose they are.
    name : str
        The set, ``test`` or ``valid``.
    lists : list of str
        Trial lists whose scores must come from the same weights.

    Returns
    -------
    list of str, np.ndarray
        The utterances' IDs and their vectors (N, D).

    Raises
    ------
    UserError
        When the file is missing, or the scores were made with other weights.
    """
    path = embeddings_path(system, name)
    try:
        kept = read_embeddings(path)
    except BrokenEmbeddings as error:
        raise UserError(
            f"{path} is not an embeddings file ({error}); run stage 4 again.", code="damaged-file"
        ) from error
    for trials in lists:
        if system.scores[trials].weights != kept.weights_sha256:
            result = system.folder / "results" / f"{trials}.json"
            raise UserError(
                f"{result} was scored with other weights than {path} holds; run stage 4 again.",
                code="other-weights",
            )
    return kept.ids, kept.vectors


def choose_speakers(ids: list[str], count: int = SPEAKERS) -> list[str]:
    """Give the speakers with most utterances, in the order of their names.

    Example
    -------
    >>> choose_speakers(["b/s1/1", "a/s1/1", "c/s1/1", "c/s1/2"], count=2)
    ['a', 'c']
    """
    utterances = Counter(speaker_of(i) for i in ids)
    return sorted(sorted(utterances, key=lambda s: (-utterances[s], s))[:count])


def speaker_of(utterance: str) -> str:
    """Give the first part of an utterance's ID, which is its speaker."""
    return utterance.split("/", 1)[0]


def project(ids: list[str], vectors: np.ndarray, speakers: list[str]) -> Projection:
    """Lay the chosen speakers' embeddings out in two dimensions.

    Arguments
    ---------
    ids : list of str
        N utterances.
    vectors : np.ndarray
        Their embeddings (N, D); only directions count, as in the scores.
    speakers : list of str
        The speakers to keep, at most :data:`UTTERANCES` utterances of each, drawn with
        :data:`SEED`.

    Returns
    -------
    Projection
        By t-SNE, or by PCA where there are too few points for it.
    """
    generator = np.random.default_rng(SEED)
    owners = np.array([speaker_of(i) for i in ids])
    rows = []
    for speaker in speakers:
        own = np.flatnonzero(owners == speaker)
        rows.append(np.sort(generator.permutation(own)[:UTTERANCES]))
    chosen = np.concatenate(rows)
    labels = np.repeat(np.arange(len(speakers)), [len(r) for r in rows])
    kept = vectors[chosen].astype(np.float64)
    kept /= np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12)
    if len(kept) < FEWEST_FOR_TSNE:
        points = np.zeros((len(kept), 2))
        dimensions = min(2, *kept.shape)
        points[:, :dimensions] = PCA(n_components=dimensions, random_state=SEED).fit_transform(kept)
        return Projection(points, labels, speakers, f"PCA (scikit-learn {sklearn_version})")
    perplexity = min(30.0, (len(kept) - 1) / 3)
    # On vectors of length 1, squared Euclidean distance, which t-SNE uses, is 2 (1 - cosine).
    # One thread: on a busy machine several wait for each other, and it takes twenty times as long.
    with threadpool_limits(limits=1):
        points = TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(kept)
    method = f"t-SNE (scikit-learn {sklearn_version}, perplexity {perplexity:.0f}, seed {SEED})"
    return Projection(points, labels, speakers, method)
