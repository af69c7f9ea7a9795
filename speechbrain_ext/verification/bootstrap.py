"""How far an error rate, or the difference of two, would move with other speakers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speechbrain_ext.verification.metrics import checked_scores

#: Fewer speakers have no interval: their draws repeat too few persons to tell what others give.
FEWEST_SPEAKERS = 5
NO_INTERVAL = f"There is no 95 % interval where a list has fewer than {FEWEST_SPEAKERS} speakers."


def eer_interval(
    scores: np.ndarray,
    labels: np.ndarray,
    enrol_speakers: np.ndarray,
    test_speakers: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """95 % interval of the equal error rate by bootstrap over speakers.

    The bounds are the 2.5 % and 97.5 % quantiles of the EERs of :func:`eer_draws`.

    Arguments
    ---------
    scores, labels : np.ndarray
        (N,) scores, higher for "the same speaker"; (N,) bool labels, True for a target.
    enrol_speakers, test_speakers : np.ndarray
        (N,) each, the speaker on each side: any values that compare equal for one person; integers
        are quickest.
    samples : int
        Number of draws.
    seed : int
        The same seed gives the same interval.

    Returns
    -------
    tuple of float
        Lower and upper bound, in 0..1; None with fewer than ``FEWEST_SPEAKERS`` speakers.

    Raises
    ------
    ValueError
        When there is no target or no non-target, a score is not finite, the lengths differ, or
        there are fewer than two speakers or one sample.

    Example
    -------
    >>> speakers = np.arange(8)
    >>> enrol, test = (side.ravel() for side in np.meshgrid(speakers, speakers))
    >>> low, high = eer_interval(np.sin(enrol + 3.0 * test), enrol == test, enrol, test, samples=50)
    >>> 0.0 <= low < high <= 1.0
    True
    """
    if few_speakers(enrol_speakers, test_speakers):
        return None
    low, high = np.quantile(
        eer_draws([scores], labels, enrol_speakers, test_speakers, samples, seed)[:, 0],
        (0.025, 0.975),
    )
    return float(low), float(high)


def few_speakers(enrol_speakers: np.ndarray, test_speakers: np.ndarray) -> bool:
    """Whether the speakers (N,) of both sides of the trials are too few for an interval.

    Example
    -------
    >>> few_speakers(np.array([1, 2, 3]), np.array([3, 4, 4]))
    True
    """
    return len(np.unique(np.concatenate((enrol_speakers, test_speakers)))) < FEWEST_SPEAKERS


def eer_draws(
    scores: Sequence[np.ndarray],
    labels: np.ndarray,
    enrol_speakers: np.ndarray,
    test_speakers: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Equal error rates of several systems, each on the same draws of speakers.

    Trials that share a speaker are not independent, so it is speakers that are drawn anew, with
    replacement, as many as there are. A trial between two speakers counts as often as both were
    drawn, multiplied; a trial of one speaker with itself as often as that speaker was drawn: its
    copies are one person each, and no copy is paired with another. Draws that leave no target or
    no non-target are drawn again.

    As a row belongs to one draw, the difference of two columns is a paired one: what is hard for
    both systems, because of the speakers drawn, is not in it.

    Resampling whole persons is the "subsets bootstrap" of Bolle, Ratha and Pankanti, "Error
    analysis of pattern recognition systems" (CVIU 93, 2004); product weights for data with two
    crossed factors are Owen's "pigeonhole bootstrap" (Annals of Applied Statistics 1, 2007).

    Arguments
    ---------
    scores : sequence of np.ndarray
        The scores (N,) of each of K systems on the same trials, higher for "the same speaker".
    labels : np.ndarray
        (N,) bool, True for a target.
    enrol_speakers, test_speakers : np.ndarray
        (N,) each, the speaker on each side: any values that compare equal for one person; integers
        are quickest.
    samples : int
        Number of draws.
    seed : int
        The same seed gives the same draws, whatever the systems.

    Returns
    -------
    np.ndarray
        (samples, K) float64, in 0..1.

    Raises
    ------
    ValueError
        As :func:`eer_interval`, and when there is no system.

    Example
    -------
    >>> speakers = np.arange(8)
    >>> enrol, test = (side.ravel() for side in np.meshgrid(speakers, speakers))
    >>> good, bad = np.sin(enrol + 3.0 * test) + (enrol == test), np.cos(enrol * test)
    >>> draws = eer_draws([good, bad], enrol == test, enrol, test, samples=50)
    >>> low, high = np.quantile(draws[:, 0] - draws[:, 1], (0.025, 0.975))  # of the difference
    >>> bool(low < high <= 0.0)
    True
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    if not len(scores):
        raise ValueError("a bootstrap needs the scores of at least one system")
    checked = [checked_scores(each, labels) for each in scores]
    labels, trials = checked[0][1], len(checked[0][1])
    speakers, codes = np.unique(
        np.concatenate((enrol_speakers, test_speakers)), return_inverse=True
    )
    if len(codes) != 2 * trials:
        raise ValueError(f"{trials} trials need a speaker on each side, not {len(codes)}")
    if len(speakers) < 2:
        raise ValueError("a bootstrap over speakers needs at least two of them")

    systems = [_Ranked(each, labels) for each, _ in checked]
    is_target = labels.astype(np.int64)
    first, second = codes[:trials], codes[trials:]
    # A speaker beyond the last one, always drawn once, stands in where both sides are one person.
    second = np.where(first == second, len(speakers), second)

    generator = np.random.default_rng(seed)
    rates: list[list[float]] = []
    counts = np.ones(len(speakers) + 1, dtype=np.int64)
    while len(rates) < samples:
        drawn = generator.integers(len(speakers), size=len(speakers))
        counts[:-1] = np.bincount(drawn, minlength=len(speakers))
        weights = counts.take(first) * counts.take(second)
        targets = int(weights @ is_target)
        nontargets = int(weights.sum()) - targets
        if targets == 0 or nontargets == 0:
            continue
        rates.append([system.eer(weights, targets, nontargets) for system in systems])
    return np.array(rates)


class _Ranked:
    """The trials of one system in the order of their scores."""

    def __init__(self, scores: np.ndarray, labels: np.ndarray) -> None:
        self.order = np.argsort(scores)
        ranked = scores[self.order]
        self.is_target = labels[self.order].astype(np.int64)
        # No threshold divides a run of equal scores: where each begins, and the run of each trial.
        new_run = np.concatenate(([True], ranked[1:] != ranked[:-1]))
        self.begins = np.append(np.flatnonzero(new_run), len(ranked))
        self.run_of = np.cumsum(new_run) - 1

    def eer(self, weights: np.ndarray, targets: int, nontargets: int) -> float:
        """The rate when each trial counts so many times."""
        weights = weights.take(self.order)
        # miss = false alarm where  targets below / targets + non-targets below / nontargets = 1;
        # multiplied out, all of it is whole numbers.
        below = np.cumsum(weights * np.array([targets, nontargets]).take(self.is_target))
        run = self.run_of[np.searchsorted(below, targets * nontargets)]
        begin, end = self.begins[run], self.begins[run + 1]
        before = int(below[begin - 1]) if begin else 0
        share = (targets * nontargets - before) / (int(below[end - 1]) - before)
        missed = weights[:begin] @ self.is_target[:begin]
        missed_in_run = weights[begin:end] @ self.is_target[begin:end]
        return float((missed + share * missed_in_run) / targets)
