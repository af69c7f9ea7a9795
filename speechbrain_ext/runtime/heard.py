"""What is kept of a recording: its embedding, the mean of parts where it is long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Heard:
    """What is kept of a recording: enough to decide, whatever its length.

    Arguments
    ---------
    embedding : np.ndarray
        (D,) float32, as the network gives it.
    seconds, seconds_of_speech : float
        Of all of it, and of what the gate takes for speech.
    vad : str
        The gate: ``silero`` or ``energy``.
    """

    embedding: np.ndarray
    seconds: float
    seconds_of_speech: float
    vad: str


def mean_of_parts(
    blocks: Iterable[np.ndarray],
    embed: Callable[[np.ndarray], np.ndarray],
    longest: int,
    shortest: int,
) -> np.ndarray:
    """Embed a recording in parts, of which one at a time is held.

    Arguments
    ---------
    blocks : iterable of np.ndarray
        (samples,) each; one at least.
    embed : callable
        Maps (1, samples) to (1, D).
    longest, shortest : int
        Samples of a part, and of the last one where there are several: what is less belongs to the
        part before.

    Returns
    -------
    np.ndarray
        (D,) float32: the mean of the parts' embeddings, by their lengths. Of one part, its own.

    Example
    -------
    >>> blocks = [np.full(3, value) for value in (1.0, 1.0, 5.0)]
    >>> mean_of_parts(blocks, lambda part: part.mean(axis=1, keepdims=True), 6, 2)
    array([2.3333333], dtype=float32)
    """
    waiting: list[np.ndarray] = []
    sums: list[np.ndarray] = []
    held = embedded = 0

    def embed_part(samples: np.ndarray) -> None:
        nonlocal embedded
        sums.append(len(samples) * embed(samples[None])[0].astype(np.float64))
        embedded += len(samples)

    for block in blocks:
        waiting.append(block)
        held += len(block)
        while held >= longest + shortest:
            samples = np.concatenate(waiting)
            embed_part(samples[:longest])
            waiting = [samples[longest:]]
            held -= longest
    embed_part(np.concatenate(waiting))
    mean: np.ndarray = np.sum(sums, axis=0) / embedded
    return mean.astype(np.float32)


def unit(embedding: np.ndarray) -> np.ndarray:
    """An embedding (D,), or (N, D), of length 1, in float32.

    Example
    -------
    >>> unit(np.array([3.0, 4.0], dtype=np.float32)).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    squares = np.einsum("...d,...d->...", embedding, embedding, dtype=np.float64)
    return (embedding / np.sqrt(squares)[..., None].astype(np.float32)).astype(np.float32)
