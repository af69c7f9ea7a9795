"""How far an error rate, or the difference of two, would move with other speakers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from speechbrain_ext.errors import brought_by
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.verification.draws import (
    AT_ONCE,
    BLOCK,
    Draws,
    Trials,
    draw,
    few_speakers,
    weigh,
)
from speechbrain_ext.verification.metrics import checked_scores

with brought_by("train"):
    from joblib import cpu_count
    from tqdm import tqdm

_MEMORY = 1 << 30  # bytes that draws which are weighed side by side may take, of 40 a trial


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
        As :func:`eer_draws`, where the speakers are enough.

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


def mean_draws(
    costs: Iterable[np.ndarray],
    labels: np.ndarray,
    enrol_speakers: np.ndarray,
    test_speakers: np.ndarray,
    samples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Mean costs of non-targets and of targets, on the draws of :func:`eer_draws`.

    Arguments
    ---------
    costs : iterable of np.ndarray
        K times what each trial costs (N,): 1 for an error and 0 for none give error rates.
    labels, enrol_speakers, test_speakers, samples, seed
        As for :func:`eer_draws`.

    Returns
    -------
    np.ndarray
        (samples, K, 2) float64, of the non-targets and of the targets.

    Raises
    ------
    ValueError
        As :func:`eer_draws`.

    Example
    -------
    >>> speakers = np.arange(8)
    >>> enrol, test = (side.ravel() for side in np.meshgrid(speakers, speakers))
    >>> accepted = np.sin(enrol + 3.0 * test) > 0.5
    >>> rates = mean_draws([accepted], enrol == test, enrol, test, samples=50)[:, 0, 0]
    >>> bool(0.0 <= rates.min() < rates.max() <= 1.0)
    True
    """
    trials, draws = _drawn(labels, enrol_speakers, test_speakers, samples, seed)
    means = []
    for each in costs:
        checked, is_target = checked_scores(each, labels)
        checked = checked.astype(np.float64, copy=False)
        of_nontargets, of_targets = (
            weigh(trials.pairs(kind, checked), draws.counts) for kind in (~is_target, is_target)
        )
        both = of_nontargets / draws.nontargets, of_targets / draws.targets
        means.append(np.stack(both, axis=1))
    return np.stack(means, axis=1)


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

    The rates are exact. Draws are weighed side by side on all cores, as far as memory allows; what
    takes longer than some seconds tells on a terminal how long it will.

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
        When there is no system, no target or no non-target, a score is not finite, the lengths
        differ, or there are fewer than two speakers or one sample.

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
    if not len(scores):
        raise ValueError("a bootstrap needs the scores of at least one system")
    checked = [checked_scores(each, labels) for each in scores]
    trials, draws = _drawn(labels, enrol_speakers, test_speakers, samples, seed)
    total = samples * len(checked)
    with progress_bar(total=total, desc="bootstrap", unit=" draws", delay=5, leave=False) as bar:
        return np.stack([_eers(each, trials, draws, bar) for each, _ in checked], axis=1)


def _drawn(
    labels: np.ndarray,
    enrol_speakers: np.ndarray,
    test_speakers: np.ndarray,
    samples: int,
    seed: int,
) -> tuple[Trials, Draws]:
    """Who speaks in the trials, and draws of them."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    trials = Trials.of(
        np.asarray(labels, dtype=bool), np.asarray(enrol_speakers), np.asarray(test_speakers)
    )
    if trials.speakers < 2:
        raise ValueError("a bootstrap over speakers needs at least two of them")
    return trials, draw(trials, samples, seed)


def _eers(scores: np.ndarray, trials: Trials, draws: Draws, bar: tqdm) -> np.ndarray:
    """The rate of one system in each draw (D,).

    The threshold moves little from draw to draw. A few draws on a sample of the trials tell where
    it lies. The trials with scores about there are weighed one by one, and the others by pairs of
    speakers, so that a draw costs little more than some per cent of the trials do. A draw whose
    threshold lies elsewhere is weighed with all trials.
    """
    order = np.argsort(scores)
    step = -(-len(order) // BLOCK)
    sample = order[::step]
    first, second, is_target = (each[sample] for each in trials[1:3] + trials[:1])
    found = []
    for counts in draws.counts[:AT_ONCE]:
        weights = counts[first] * counts[second]
        misses, rejected = np.cumsum(weights * is_target), np.cumsum(weights * ~is_target)
        gap = misses / max(misses[-1], 1) + rejected / max(rejected[-1], 1)
        found.append(step * int(np.searchsorted(gap, 1.0)))
    margin = max(found) - min(found) + step
    begin, end = max(min(found) - margin, 0), min(max(found) + margin, len(order))
    rates = _Window(scores, trials, order, begin, end).eers(draws, bar)
    elsewhere = np.isnan(rates)
    if elsewhere.any():
        bar.total = (bar.total or 0) + int(elsewhere.sum())
        everything = _Window(scores, trials, order, 0, len(order))
        rates[elsewhere] = everything.eers(draws.only(elsewhere), bar)
    return rates


class _Window:
    """The trials of one system in the order of their scores, from one place to another."""

    def __init__(
        self, scores: np.ndarray, trials: Trials, order: np.ndarray, begin: int, end: int
    ) -> None:
        # No threshold divides a run of equal scores: the window holds each whole.
        begin = np.searchsorted(scores, scores[order[begin]], "left", sorter=order)
        end = np.searchsorted(scores, scores[order[end - 1]], "right", sorter=order)
        inside, below, above = order[begin:end], order[:begin], order[end:]
        self.first, self.second = (
            side[inside].astype(np.intp) for side in (trials.first, trials.second)
        )
        self.is_target = trials.labels[inside].astype(np.int64)
        self.targets_below = trials.pairs(below[trials.labels[below]])
        self.nontargets_above = trials.pairs(above[~trials.labels[above]])
        # Where each run begins, and the run of each trial.
        ranked = scores[inside]
        new_run = np.concatenate(([True], ranked[1:] != ranked[:-1]))
        self.begins = np.append(np.flatnonzero(new_run), len(ranked))
        self.run_of = np.cumsum(new_run) - 1

    def eers(self, draws: Draws, bar: tqdm) -> np.ndarray:
        """The rate in each draw; NaN where its threshold does not lie in the window."""
        below = weigh(self.targets_below, draws.counts)
        above = weigh(self.nontargets_above, draws.counts)
        kinds = (each.tolist() for each in (draws.targets, draws.nontargets, below, above))
        rates = np.empty(len(draws.counts))
        # NumPy leaves the interpreter to other threads while it goes through an array.
        threads = _MEMORY // (40 * len(self.first)) or 1
        pool = ThreadPoolExecutor(min(threads, cpu_count()))
        try:
            for number, rate in enumerate(pool.map(self._eer, draws.counts, *kinds)):
                rates[number] = rate
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
        return rates

    def _eer(
        self, counts: np.ndarray, targets: int, nontargets: int, missed: int, accepted: int
    ) -> float:
        weights = counts.take(self.first) * counts.take(self.second)
        # miss = false alarm where  targets below / targets + non-targets below / nontargets = 1;
        # multiplied out, all of it is whole numbers.
        inside = np.cumsum(weights * np.array([targets, nontargets]).take(self.is_target))
        weighed = int(weights @ (1 - self.is_target))
        before = missed * nontargets + (nontargets - accepted - weighed) * targets
        wanted = targets * nontargets - before
        if not 0 < wanted <= inside[-1]:
            return math.nan
        run = self.run_of[np.searchsorted(inside, wanted)]
        begin, end = self.begins[run], self.begins[run + 1]
        earlier = int(inside[begin - 1]) if begin else 0
        share = (wanted - earlier) / (int(inside[end - 1]) - earlier)
        missed += int(weights[:begin] @ self.is_target[:begin])
        missed_in_run = int(weights[begin:end] @ self.is_target[begin:end])
        return (missed + share * missed_in_run) / targets
