"""Speakers drawn anew: how often trials count then."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from speechbrain_ext.errors import brought_by

with brought_by("train"):
    from scipy.sparse import csr_array

#: Fewer speakers have no interval: their draws repeat too few persons to tell what others give.
FEWEST_SPEAKERS = 5
NO_INTERVAL = f"There is no 95 % interval where a list has fewer than {FEWEST_SPEAKERS} speakers."

BLOCK = 1 << 20  # trials handled at a time
AT_ONCE = 32  # draws


def few_speakers(enrol_speakers: np.ndarray, test_speakers: np.ndarray) -> bool:
    """Whether the speakers (N,) of both sides of the trials are too few for an interval.

    Example
    -------
    >>> few_speakers(np.array([1, 2, 3]), np.array([3, 4, 4]))
    True
    """
    return len(_distinct(enrol_speakers, test_speakers)) < FEWEST_SPEAKERS


def _distinct(*sides: np.ndarray) -> np.ndarray:
    """All values, sorted; by blocks, which takes less memory than all at once."""
    blocks = [np.unique(side[block]) for side in sides for block in _blocks(len(side))]
    return np.unique(np.concatenate(blocks))


def _blocks(trials: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, trials, BLOCK)]


class Trials(NamedTuple):
    """Who speaks in N trials, of S speakers by number."""

    labels: np.ndarray  # (N,) bool
    first: np.ndarray  # (N,) int32
    second: np.ndarray  # (N,) int32; S, a stand-in, where both sides are one person
    speakers: int

    @classmethod
    def of(cls, labels: np.ndarray, enrol: np.ndarray, test: np.ndarray) -> Trials:
        """Number the speakers."""
        if not len(enrol) == len(test) == len(labels):
            raise ValueError(
                f"{len(labels)} trials need a speaker on each side, not {len(enrol)} and "
                f"{len(test)}"
            )
        speakers = _distinct(enrol, test)
        first, second = np.empty(len(labels), np.int32), np.empty(len(labels), np.int32)
        for block in _blocks(len(labels)):
            first[block] = np.searchsorted(speakers, enrol[block])
            second[block] = np.searchsorted(speakers, test[block])
            second[block][first[block] == second[block]] = len(speakers)
        return cls(labels, first, second, len(speakers))

    def pairs(self, chosen: np.ndarray, costs: np.ndarray | None = None) -> csr_array:
        """How many of the trials chosen, by place or mask, each two speakers have.

        With the costs of all trials (N,) it is the sum of theirs.
        """
        first, second = self.first[chosen], self.second[chosen]
        each = np.ones(len(first), dtype=np.int64) if costs is None else costs[chosen]
        shape = (self.speakers + 1, self.speakers + 1)
        pairs = csr_array(shape, dtype=each.dtype)
        for block in _blocks(len(first)):
            pairs += csr_array((each[block], (first[block], second[block])), shape)
        return pairs


class Draws(NamedTuple):
    """D draws: how often each speaker came up, and what targets and non-targets then weigh."""

    counts: np.ndarray  # (D, S + 1) int64; the stand-in comes up once
    targets: np.ndarray  # (D,) int64
    nontargets: np.ndarray  # (D,) int64

    def only(self, which: np.ndarray) -> Draws:
        """Those of a mask (D,)."""
        return Draws(*(each[which] for each in self))


def draw(trials: Trials, samples: int, seed: int) -> Draws:
    """Draw as many speakers as there are, with replacement, so often.

    Draws that leave no target or no non-target are drawn again.
    """
    kinds = [trials.pairs(kind) for kind in (trials.labels, ~trials.labels)]
    generator = np.random.default_rng(seed)
    kept: list[Draws] = []
    while sum(len(draws.counts) for draws in kept) < samples:
        counts = np.ones((AT_ONCE, trials.speakers + 1), dtype=np.int64)
        for each in counts:
            drawn = generator.integers(trials.speakers, size=trials.speakers)
            each[:-1] = np.bincount(drawn, minlength=trials.speakers)
        draws = Draws(counts, *(weigh(pairs, counts) for pairs in kinds))
        kept.append(draws.only((draws.targets > 0) & (draws.nontargets > 0)))
    return Draws(*(np.concatenate(each)[:samples] for each in zip(*kept, strict=True)))


def weigh(pairs: csr_array, counts: np.ndarray) -> np.ndarray:
    """How often trials count (D,), or what they cost, when speakers came up so often (D, S + 1)."""
    weights = np.empty(len(counts), dtype=pairs.dtype)
    for start in range(0, len(counts), AT_ONCE):
        some = counts[start : start + AT_ONCE].T
        weights[start : start + AT_ONCE] = (some * (pairs @ some)).sum(0)
    return weights
