"""How far an error rate would move with other speakers."""

from __future__ import annotations

import numpy as np

from speechbrain_ext.verification.metrics import checked_scores


def eer_interval(
    scores: np.ndarray,
    labels: np.ndarray,
    enrol_speakers: np.ndarray,
    test_speakers: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the equal error rate by bootstrap over speakers.

    Trials that share a speaker are not independent, so it is speakers that are drawn anew, with
    replacement, as many as there are. A trial between two speakers counts as often as both were
    drawn, multiplied; a trial of one speaker with itself as often as that speaker was drawn: its
    copies are one person each, and no copy is paired with another. Draws that leave no target or
    no non-target are drawn again. The bounds are the 2.5 % and 97.5 % quantiles of the draws' EER.

    Resampling whole persons is the "subsets bootstrap" of Bolle, Ratha and Pankanti, "Error
    analysis of pattern recognition systems" (CVIU 93, 2004); product weights for data with two
    crossed factors are Owen's "pigeonhole bootstrap" (Annals of Applied Statistics 1, 2007).

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
        Lower and upper bound, in 0..1.

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
    scores, labels = checked_scores(scores, labels)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    speakers, codes = np.unique(
        np.concatenate((enrol_speakers, test_speakers)), return_inverse=True
    )
    if len(codes) != 2 * len(scores):
        raise ValueError(f"{len(scores)} trials need a speaker on each side, not {len(codes)}")
    if len(speakers) < 2:
        raise ValueError("a bootstrap over speakers needs at least two of them")

    order = np.argsort(scores)
    ranked, is_target = scores[order], labels[order].astype(np.int64)
    # No threshold divides a run of equal scores: where each begins, and the run of each trial.
    new_run = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    begins, run_of = np.append(np.flatnonzero(new_run), len(ranked)), np.cumsum(new_run) - 1
    first, second = codes[: len(scores)][order], codes[len(scores) :][order]
    # A speaker beyond the last one, always drawn once, stands in where both sides are one person.
    second = np.where(first == second, len(speakers), second)

    generator = np.random.default_rng(seed)
    rates: list[float] = []
    counts = np.ones(len(speakers) + 1, dtype=np.int64)
    while len(rates) < samples:
        drawn = generator.integers(len(speakers), size=len(speakers))
        counts[:-1] = np.bincount(drawn, minlength=len(speakers))
        weights = counts.take(first) * counts.take(second)
        targets = int(weights @ is_target)
        nontargets = int(weights.sum()) - targets
        if targets == 0 or nontargets == 0:
            continue
        # miss = false alarm where  targets below / targets + non-targets below / nontargets = 1;
        # multiplied out, all of it is whole numbers.
        below = np.cumsum(weights * np.array([targets, nontargets]).take(is_target))
        run = run_of[np.searchsorted(below, targets * nontargets)]
        begin, end = begins[run], begins[run + 1]
        before = int(below[begin - 1]) if begin else 0
        share = (targets * nontargets - before) / (int(below[end - 1]) - before)
        missed = weights[:begin] @ is_target[:begin]
        missed_in_run = weights[begin:end] @ is_target[begin:end]
        rates.append(float((missed + share * missed_in_run) / targets))
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)
