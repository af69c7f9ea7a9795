"""Signals at another sample rate, block by block, as the models have learnt to hear them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator

import numpy as np

# torchaudio's: zero crossings of the filter on a side, and where it cuts, of the lower half rate.
_CROSSINGS, _ROLLOFF = 6, 0.99


def resample(blocks: Iterable[np.ndarray], given: int, wanted: int) -> Iterator[np.ndarray]:
    """Resample a signal as torchaudio does the whole of it.

    Its filter lets a little of what is above the lower rate through. Another filter, a sharper one
    too, leaves other numbers in bands that are all but empty, and with them other embeddings.

    Arguments
    ---------
    blocks : iterable of np.ndarray
        (samples,) float32 each.
    given, wanted : int
        Samples per second, of the blocks and of what is made of them.

    Yields
    ------
    np.ndarray
        (samples,) float32, as many in all as the signal lasts, rounded up.

    Example
    -------
    >>> blocks = [np.zeros(size, dtype=np.float32) for size in (8000, 100)]
    >>> sum(len(piece) for piece in resample(blocks, 8000, 16000))
    16200
    """
    if given == wanted:
        yield from blocks
        return
    old, new = given // math.gcd(given, wanted), wanted // math.gcd(given, wanted)
    filters = _filters(old, new)
    reach = filters.shape[1] // 2
    held = np.zeros(reach, dtype=np.float32)  # what filters still reach, after silence
    heard = dropped = made = 0  # samples, the last of those that are made

    def make(end: int) -> np.ndarray:
        nonlocal held, dropped, made
        places, made = np.arange(made, end), end
        starts = places * old // new - dropped
        reached = np.lib.stride_tricks.sliding_window_view(held, 2 * reach + 1)[starts]
        gone = made * old // new - dropped
        held, dropped = held[gone:], dropped + gone
        piece: np.ndarray = np.einsum("nt,nt->n", reached, filters[places % new])
        return piece

    for block in blocks:
        held, heard = np.concatenate((held, block)), heard + len(block)
        if (end := (heard - reach) * new // old) > made:
            yield make(end)
    held = np.concatenate((held, np.zeros(reach + 1, dtype=np.float32)))
    yield make(-(-heard * new // old))


@functools.lru_cache(maxsize=16)
def _filters(old: int, new: int) -> np.ndarray:
    """For each place of a new sample between two old ones, the weights of those around it."""
    lower = _ROLLOFF * min(old, new)
    reach = math.ceil(_CROSSINGS * old / lower)
    places = np.arange(new)[:, None]
    places_of_old = places * old // new + np.arange(-reach, reach + 1)
    # In single precision, as torchaudio has it.
    crossings = (places_of_old / old - (places / new).astype(np.float32)) * lower
    window = np.cos(np.clip(crossings / _CROSSINGS, -1, 1) * np.pi / 2) ** 2
    weights: np.ndarray = (np.sinc(crossings) * window * lower / old).astype(np.float32)
    return weights
