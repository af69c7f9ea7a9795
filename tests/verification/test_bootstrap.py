"""Interval of the EER by bootstrap over speakers."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from speechbrain_ext.verification import bootstrap, draws
from speechbrain_ext.verification.bootstrap import eer_draws, eer_interval, mean_draws
from speechbrain_ext.verification.metrics import equal_error_rate


def _case(
    speakers: int, seed: int, decimals: int = 8
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Three utterances of each speaker, all pairs; speakers differ in how well they are told."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(speakers), 3)
    first, second = np.triu_indices(len(owner), k=1)
    enrol, test = owner[first], owner[second]
    labels = enrol == test
    # The width varies by speaker, so that trials of one speaker depend on each other.
    ease = rng.normal(0.0, 0.7, speakers)
    scores = rng.standard_normal(len(labels)) + labels * (2.0 + ease[enrol])
    return np.round(scores, decimals), labels, enrol, test


@pytest.mark.parametrize("decimals", [8, 1, 0])
@pytest.mark.parametrize("speakers", [7, 25])
@pytest.mark.parametrize("at_once, block", [(32, 1 << 20), (1, 100)])
def test_each_draw_is_the_eer_of_the_repeated_trials(
    decimals: int, speakers: int, at_once: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights do what writing each trial out as often as it was drawn does, ties included.

    Also where a single draw tells what part of the trials to look at, and most others lie outside.
    """
    for module in (draws, bootstrap):
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        monkeypatch.setattr(module, "BLOCK", block)
    scores, labels, enrol, test = _case(speakers, 0, decimals)
    generator = np.random.default_rng(9)
    rates: list[float] = []
    while len(rates) < 40:
        drawn = np.bincount(generator.integers(speakers, size=speakers), minlength=speakers)
        times = drawn[enrol] * np.where(enrol == test, 1, drawn[test])
        rows = np.repeat(np.arange(len(scores)), times)
        if 0 < np.count_nonzero(labels[rows]) < len(rows):
            rates.append(equal_error_rate(scores[rows], labels[rows])[0])
    found = eer_draws([-scores, scores], labels, enrol, test, samples=40, seed=9)
    np.testing.assert_allclose(found[:, 1], rates, rtol=1e-12)


@pytest.mark.parametrize("at_once, block", [(32, 1 << 20), (1, 100)])
def test_each_draw_has_the_means_of_the_repeated_trials(
    at_once: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (draws, bootstrap):
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        monkeypatch.setattr(module, "BLOCK", block)
    scores, labels, enrol, test = _case(9, 0)
    generator = np.random.default_rng(9)
    means: list[list[float]] = []
    while len(means) < 40:
        drawn = np.bincount(generator.integers(9, size=9), minlength=9)
        times = drawn[enrol] * np.where(enrol == test, 1, drawn[test])
        if times[labels].any() and times[~labels].any():
            means.append(
                [float(np.average(scores[kind], weights=times[kind])) for kind in (~labels, labels)]
            )
    found = mean_draws([scores > 1, scores], labels, enrol, test, samples=40, seed=9)
    np.testing.assert_allclose(found[:, 1], means, rtol=1e-9)
    assert (0 <= found[:, 0]).all() and (found[:, 0] <= 1).all()


def test_memory_is_a_few_numbers_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """37 million trials must not take many times what they are given as."""
    for module in (draws, bootstrap):
        monkeypatch.setattr(module, "BLOCK", 1 << 15)  # few for these, as 2^20 is for more trials
    trials = 1_000_000
    generator = np.random.default_rng(0)
    enrol, test = generator.integers(300, size=(2, trials), dtype=np.int32)
    test[::50] = enrol[::50]
    labels = enrol == test
    scores = generator.standard_normal(trials, dtype=np.float32) + 3 * labels
    tracemalloc.start()
    eer_draws([scores], labels, enrol, test, samples=50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * trials


def test_same_seed_same_interval() -> None:
    """Deterministic, blind to the order of the trials and to what the speakers are called."""
    scores, labels, enrol, test = _case(12, 1)
    expected = eer_interval(scores, labels, enrol, test, samples=100, seed=3)
    assert eer_interval(scores, labels, enrol, test, samples=100, seed=3) == expected
    assert eer_interval(scores, labels, enrol, test, samples=100, seed=4) != expected
    back = slice(None, None, -1)
    turned = eer_interval(scores[back], labels[back], enrol[back], test[back], samples=100, seed=3)
    assert turned == expected
    names = np.array([f"id{n:05d}" for n in range(12)])
    by_name = eer_interval(scores, labels, names[enrol], names[test], samples=100, seed=3)
    assert by_name == expected


def test_interval_covers_what_other_speakers_give() -> None:
    """Of many corpora drawn alike, most intervals hold the EER of the whole population."""
    population = np.mean([equal_error_rate(*_case(60, seed)[:2])[0] for seed in range(30)])
    inside = 0
    for seed in range(100, 140):
        low, high = eer_interval(*_case(30, seed), samples=200) or (0, 0)
        inside += int(low <= population <= high)
    assert inside >= 32  # 95 % of 40 is 38; percentile intervals of 30 speakers are a little narrow


def test_more_speakers_narrower_interval() -> None:
    """Uncertainty shrinks with the number of speakers."""
    widths = [np.ptp(eer_interval(*_case(speakers, 2), samples=200) or 0) for speakers in (10, 80)]
    assert widths[1] < 0.6 * widths[0]


def test_what_cannot_be_drawn_is_refused() -> None:
    """One speaker, sides of different length, no samples."""
    scores, labels, enrol, test = _case(6, 0)
    with pytest.raises(ValueError, match="two"):
        eer_draws([scores], labels, np.zeros_like(enrol), np.zeros_like(test))
    with pytest.raises(ValueError, match="speaker on each side"):
        eer_interval(scores, labels, enrol[1:], test)
    with pytest.raises(ValueError, match="samples"):
        eer_interval(scores, labels, enrol, test, samples=0)


def test_few_speakers_have_no_interval() -> None:
    """Two would give the same draws again and again, and an interval of width 0."""
    assert [eer_interval(*_case(n, 0), samples=20) is None for n in (1, 2, 3, 4, 5)] == [
        True, True, True, True, False,
    ]  # fmt: skip


def test_one_system_is_never_different_from_itself() -> None:
    """Every draw is the same for all systems: what is common to two of them leaves no trace."""
    scores, labels, enrol, test = _case(12, 5)
    other = -scores
    draws = eer_draws([scores, other, scores, 2.0 * scores + 1.0], labels, enrol, test, samples=60)
    assert draws.shape == (60, 4)
    assert np.ptp(draws[:, 0]) > 0
    np.testing.assert_array_equal(draws[:, 0], draws[:, 2])
    np.testing.assert_array_equal(draws[:, 0], draws[:, 3])  # only the order of scores counts
    np.testing.assert_allclose(draws[:, 0] + draws[:, 1], 1.0, rtol=1e-12)  # all turned about


def test_pairing_finds_a_small_difference() -> None:
    """A system that is worse for every speaker alike is told apart though the EERs overlap."""
    better, labels, enrol, test = _case(20, 6)
    worse = better - 0.3 * labels
    draws = eer_draws([better, worse], labels, enrol, test, samples=300)
    low, high = np.quantile(draws[:, 1] - draws[:, 0], [0.025, 0.975])
    assert 0 < low < high
    intervals = np.quantile(draws, [0.025, 0.975], axis=0)
    assert intervals[1, 0] > intervals[0, 1]  # of the two EERs
    point = equal_error_rate(worse, labels)[0] - equal_error_rate(better, labels)[0]
    assert low < point < high


def test_draws_are_those_of_the_interval() -> None:
    """One system's column gives the interval that is had of it alone."""
    scores, labels, enrol, test = _case(9, 7, decimals=1)
    draws = eer_draws([-scores, scores], labels, enrol, test, samples=80, seed=2)
    expected = tuple(np.quantile(draws[:, 1], [0.025, 0.975]))
    assert eer_interval(scores, labels, enrol, test, samples=80, seed=2) == expected
    with pytest.raises(ValueError, match="at least one system"):
        eer_draws([], labels, enrol, test)
