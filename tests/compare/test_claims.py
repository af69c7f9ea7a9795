"""Claims held against scores of which the truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from speechbrain_ext.compare.claims import (
    CONFIRMED,
    CONTRADICTED,
    KINDS,
    NOT_DECIDED,
    Claim,
    Verdict,
)
from speechbrain_ext.compare.collect import Evidence, Rate
from speechbrain_ext.compare.page import claims_table
from speechbrain_ext.compare.pareto import Point, frontier, pareto_figure
from speechbrain_ext.compare.plan import Plan
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.verification.bootstrap import eer_interval
from speechbrain_ext.verification.comparison import Comparison, Difference, training_noise
from speechbrain_ext.verification.metrics import equal_error_rate

SPEAKERS = 16


def trials() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    owner = np.repeat(np.arange(SPEAKERS), 4)
    first, second = np.triu_indices(len(owner), k=1)
    return owner[first] == owner[second], owner[first], owner[second]


def scores(shift: float, seed: int) -> np.ndarray:
    """Targets lie ``shift`` above non-targets; the trial's own difficulty is the same for all."""
    labels = trials()[0]
    common = np.random.default_rng(0).standard_normal(len(labels))
    own = np.random.default_rng(seed).standard_normal(len(labels))
    return common + 0.15 * own + shift * labels


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Good and equal: alike; poor: worse for everyone; near: hardly worse. Two seeds or one."""
    systems = {
        "good": {1: scores(2.0, 1), 2: scores(2.0, 2)},
        "equal": {1: scores(2.0, 3), 2: scores(2.0, 4)},
        "poor": {1: scores(1.2, 5), 2: scores(1.2, 6)},
        "near": {2: scores(1.98, 7)},
        "late": {3: scores(2.0, 8)},
    }
    return Comparison(systems, *trials(), fused=["good+poor"], samples=200)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ({"better": "good", "worse": "poor"}, CONFIRMED),
        ({"better": "poor", "worse": "good"}, CONTRADICTED),
        ({"better": "good", "worse": "near"}, NOT_DECIDED),
        ({"better": "good+poor", "worse": "poor"}, CONFIRMED),
        ({"eer": "near", "of": "good", "within": 5.0}, CONFIRMED),
        ({"eer": "poor", "of": "good", "within": 5.0}, CONTRADICTED),
        ({"eer": "near", "of": "good", "within": 0.1}, NOT_DECIDED),
        ({"equal": ["good", "equal"], "within": 4.0}, CONFIRMED),
        ({"equal": ["good", "poor"], "within": 4.0}, CONTRADICTED),
        ({"equal": ["poor", "good"], "within": 4.0}, CONTRADICTED),
        ({"equal": ["good", "equal"], "within": 0.01}, NOT_DECIDED),
        ({"better": "good", "worse": "late"}, NOT_DECIDED),  # no seed in common
        ({"better": "good", "worse": "absent"}, NOT_DECIDED),
        ({"share": "v1", "below": 0.01}, CONFIRMED),
        ({"share": "v2", "below": 0.01}, CONTRADICTED),
        ({"share": "v2", "below": 0.6}, NOT_DECIDED),
        ({"share": "v2", "above": 0.2}, CONFIRMED),
        ({"share": "v1", "above": 0.2}, CONTRADICTED),
        ({"speed": "quick", "of": "slow", "at_least": 2.0}, CONFIRMED),
        ({"speed": "quick", "of": "slow", "at_least": 5.0}, CONTRADICTED),
        ({"speed": "quick", "of": "slow", "at_least": 3.0}, NOT_DECIDED),
        ({"speed": "quick", "of": "absent", "at_least": 3.0}, NOT_DECIDED),
    ],
)
def test_every_verdict(comparison: Comparison, test: dict[str, Any], expected: str) -> None:
    """The whole interval on one side, on the other, or on both."""
    shares = {"v1": [0.001, 0.002], "v2": [0.5, 0.7]}
    rates = {"quick": Rate(300, 290, 310), "slow": Rate(100, 95, 105)}
    claim = Claim("x", "x", "x", test=KINDS[next(iter(test))](**test))
    assert claim.find(evidence(rates, shares), comparison).verdict == expected


def evidence(
    rates: dict[str, Rate] | None = None, shares: dict[str, list[float]] | None = None
) -> Evidence:
    """Of speed and loss alone."""
    plan, corpus = Plan("x", "x", "x", "x", {}, {}), Corpus(Path("x"), "x", "x", False, {})
    return Evidence(plan, corpus, [], [], [], [], {}, rates or {}, shares or {})


def bounds(difference: Difference | None) -> tuple[float, float]:
    assert difference is not None
    assert difference.low is not None and difference.high is not None
    return difference.low, difference.high


def test_few_speakers_decide_nothing() -> None:
    """There are error rates and differences, and no intervals of them."""
    labels, enrol, test = trials()
    few = np.maximum(enrol, test) < 4
    systems = {
        name: {seed: scores(shift, seed)[few] for seed in (1, 2)}
        for name, shift in (("good", 2.0), ("poor", 0.2))
    }
    found = Comparison(systems, labels[few], enrol[few], test[few], fused=["good+poor"])
    assert found.interval("good") is None
    difference = found.difference("good", "poor")
    assert difference is not None and difference.value < 0 and difference.low is None
    tests: list[dict[str, Any]] = [{"better": "good", "worse": "poor"}]
    tests += [{"equal": ["good", "poor"], "within": 1}, {"eer": "good", "of": "poor", "within": 9}]
    claims = [Claim("x", "x", "x", test=KINDS[next(iter(each))](**each)) for each in tests]
    verdicts = [Verdict(claim, None, claim.find(evidence(), found)) for claim in claims]
    assert {each.finding.verdict for each in verdicts} == {NOT_DECIDED}
    told = f"| {difference.value:+.2f} | – | *not decided* |"
    assert claims_table(verdicts).count(told) == 3
    points = [Point("good", 1.0, 9.0), Point("poor", 2.0, 5.0)]
    assert len(pareto_figure(points, False, "Million parameters", "EER", "corpus").axes) == 1


def test_difference_is_that_of_the_means_over_common_seeds(comparison: Comparison) -> None:
    """Against EERs reckoned one by one; turned round, it turns sign."""
    eer = {
        name: [100 * equal_error_rate(scores(shift, seed), trials()[0])[0] for seed in seeds]
        for name, shift, seeds in (("good", 2, (1, 2)), ("poor", 1.2, (5, 6)), ("near", 1.98, (7,)))
    }
    found = comparison.difference("good", "poor")
    assert found is not None and found.seeds == 2
    assert found.value == pytest.approx(np.mean(eer["good"]) - np.mean(eer["poor"]))
    low, high = bounds(found)
    assert low < found.value < high < 0
    alone = comparison.difference("near", "good")
    assert alone is not None and alone.seeds == 1
    assert alone.value == pytest.approx(eer["near"][0] - eer["good"][1])
    other = comparison.difference("good", "near")
    assert other is not None and other.value == pytest.approx(-alone.value)
    same = comparison.difference("good", "good")
    assert same is not None and same[:3] == (0.0, 0.0, 0.0)
    assert comparison.difference("good", "late") is None


def test_interval_of_one_seed_is_that_of_score_py() -> None:
    """The same draws; over several seeds it is that of their mean."""
    labels, enrol, test = trials()
    one, two = scores(1.5, 1), scores(1.0, 2)
    systems = {"a": {1: one}, "b": {1: two}, "both": {1: one, 2: two}}
    found = Comparison(systems, labels, enrol, test)
    alone = eer_interval(one, labels, enrol, test)
    intervals = [found.interval(name) for name in ("a", "b")]
    assert alone is not None and None not in intervals
    assert intervals[0] == pytest.approx([100 * bound for bound in alone])
    between = np.mean(intervals, axis=0)  # type: ignore[arg-type]
    assert found.interval("both") == pytest.approx(between, rel=0.1)


def test_noise_of_training_widens_what_seeds_leave_open() -> None:
    """With seeds that scatter, a difference over one seed is less certain than over four."""
    labels, enrol, test = trials()
    shifts = (1.2, 1.6, 2.0, 2.4)
    wide = {seed: scores(shift, seed) for seed, shift in enumerate(shifts, 1)}
    lifted = {seed: scores(shift + 0.3, seed) for seed, shift in enumerate(shifts, 1)}
    systems = {"wide": wide, "lifted": lifted, "once": {1: lifted[1]}}
    found = Comparison(systems, labels, enrol, test, samples=400)
    assert found.noise is not None and found.noise.degrees == 6 and found.noise.systems == 2
    eers = [list(found.eers[name].values()) for name in ("wide", "lifted")]
    expected = np.mean(np.var(eers, axis=1, ddof=1))
    assert found.noise.deviation == pytest.approx(np.sqrt(expected))
    four = np.ptp(bounds(found.difference("lifted", "wide")))
    one = np.ptp(bounds(found.difference("once", "wide")))
    assert one > 1.5 * four
    quiet = Comparison({"a": {1: wide[1]}, "b": {1: lifted[1]}}, labels, enrol, test, samples=400)
    assert quiet.noise is None
    assert np.ptp(bounds(quiet.difference("b", "a"))) < one


def test_noise_of_one_seed_each_is_unknown() -> None:
    """Nothing is made up where nothing was repeated."""
    assert training_noise([[4.0], [5.0]]) is None


def test_frontier_by_hand() -> None:
    """Few parameters and a low EER are good; of throughput, much."""
    named = {"a": (1, 9), "b": (2, 5), "c": (2, 6), "d": (3, 5), "e": (4, 4), "f": (5, 4.5)}
    points = [Point(name, x, eer, eer, eer) for name, (x, eer) in named.items()]
    assert [point.name for point in frontier(points, more_is_better=False)] == ["a", "b", "e"]
    assert [point.name for point in frontier(points, more_is_better=True)] == ["e", "f"]
    twins = [Point("one", 1, 2, 2, 2), Point("two", 1, 2, 2, 2)]
    assert frontier(twins, more_is_better=True) == twins


def test_names_in_the_figure_do_not_cover_each_other() -> None:
    """Forty systems, most with the same number of parameters."""
    rng = np.random.default_rng(0)
    points = [
        Point(f"system_{n}", 2.66 if n % 2 else float(rng.uniform(1, 20)), eer, eer - 1, eer + 1)
        for n, eer in enumerate(rng.uniform(4, 20, 40).tolist())
    ]
    figure = pareto_figure(points, False, "Million parameters", "EER", "corpus")
    axes = figure.axes[0]
    names = {text.get_text(): text for text in axes.texts}
    for name in names.values():
        name.get_window_extent()  # puts it in its place, and counts in the line to its point
    boxes = [Text.get_window_extent(names[point.name]) for point in points]
    covered = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert covered <= 4
    for point, box in zip(points, boxes, strict=True):
        place = axes.transData.transform((point.x, point.eer))
        assert not box.contains(*place)
