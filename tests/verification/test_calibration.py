"""Log-likelihood ratios and thresholds from held-out trials, and how good they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from speechbrain_ext.decisions import Calibration, Decisions, OperatingPoint, trial_values
from speechbrain_ext.verification.bootstrap import eer_interval
from speechbrain_ext.verification.calibrated import measure_calibrated
from speechbrain_ext.verification.calibration import (
    cross_validated_llr,
    fit_calibration,
    fit_decisions,
    operating_points,
)
from speechbrain_ext.verification.conditions import measure_side
from speechbrain_ext.verification.embeddings import Embeddings
from speechbrain_ext.verification.fitted import DECISIONS, Fitted, keep_decisions, kept_decisions
from speechbrain_ext.verification.likelihood_ratios import (
    act_dcf,
    cllr,
    min_cllr,
    reliability,
)
from speechbrain_ext.verification.metrics import min_dcf
from speechbrain_ext.verification.quality import unit_cohort, values_of
from speechbrain_ext.verification.tables import calibration_note
from speechbrain_ext.verification.trials import TrialList, make_trials
from tests.refusals import refused


def gaussians(targets: int, nontargets: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose log-likelihood ratio is known: 8 times the score less 2."""
    labels = np.arange(targets + nontargets) < targets
    scores = np.random.default_rng(seed).normal(np.where(labels, 0.5, 0.0), 0.25)
    return scores, labels


@pytest.mark.parametrize("prior", [0.5, 0.05])
def test_the_ratios_of_gaussians_are_found(prior: float) -> None:
    """Whatever the share of targets among the trials."""
    for targets, nontargets in ((3000, 3000), (500, 30000)):
        scores, labels = gaussians(targets, nontargets)
        found = fit_calibration({"score": scores}, labels, prior)
        assert found.weights["score"] == pytest.approx(8.0, rel=0.1)
        assert found.bias == pytest.approx(-2.0, abs=0.4)
        assert found.p_target == prior


def test_a_quality_counts_by_what_it_tells() -> None:
    """It moves scores, so its weight takes that back; one that tells nothing weighs nothing."""
    scores, labels = gaussians(2000, 8000)
    generator = np.random.default_rng(1)
    moved, idle = generator.normal(0.0, 0.3, (2, len(labels)))
    values = {"score": scores + moved, "norm": 40.0 + moved, "duration": 1.3 + idle}
    found = fit_calibration(values, labels)
    assert found.weights["norm"] == pytest.approx(-found.weights["score"], rel=0.1)
    assert abs(found.weights["duration"]) < 0.5
    with_it, without = found.llr(values), fit_calibration({"score": values["score"]}, labels)
    assert cllr(with_it, labels) < cllr(without.llr(values), labels) - 0.05
    constant = fit_calibration({"score": scores, "norm": np.full(len(labels), 3.0)}, labels)
    assert constant.weights["norm"] == 0.0


def test_trials_without_an_error_have_finite_weights() -> None:
    labels = np.arange(1000) < 30
    scores = np.where(labels, 0.8, 0.1) + np.linspace(0, 0.1, 1000)
    llr = fit_calibration({"score": scores}, labels).llr({"score": scores})
    assert np.isfinite(llr).all() and np.abs(llr).max() < 30
    assert act_dcf(llr, labels, 0.05) == 0.0


@pytest.mark.parametrize("apart", [0.4, 5.0])  # without an error where it is 5
def test_the_fit_is_the_minimum_of_its_loss(apart: float) -> None:
    """The penalty bounds it, and not the solver's patience."""
    labels = np.arange(50000) < 1500
    scores = np.random.default_rng(0).normal(labels * apart, 0.2)
    found = fit_calibration({"score": scores}, labels)
    standard = (scores - scores.mean()) / scores.std()
    slope = found.weights["score"] * scores.std()
    posterior = expit(found.llr({"score": scores}) + logit(0.05))
    error = np.where(labels, 0.05 / 1500, 0.95 / 48500) * len(labels) * (posterior - labels)
    assert error.sum() == pytest.approx(0.0, abs=1e-2)
    assert error @ standard + slope == pytest.approx(0.0, abs=1e-2)


def test_too_few_trials_are_refused() -> None:
    scores, labels = gaussians(9, 400)
    with refused("few-trials", "9 target trials", "hold more speakers out"):
        fit_calibration({"score": scores}, labels)
    with refused("few-trials", "9 non-target trials"):
        fit_calibration({"score": -scores}, ~labels)
    with pytest.raises(ValueError, match="is nan"):
        fit_calibration({"score": np.where(labels, np.nan, scores)}, labels)


def test_thresholds_give_what_they_say_on_their_own_trials() -> None:
    scores, labels = gaussians(300, 20000)
    scores = scores.astype(np.float32)
    points = operating_points(scores, labels)
    assert [point.name for point in points] == [
        "eer",
        "false_alarm_0.01",
        "false_alarm_0.001",
        "false_alarm_0.0001",
    ]
    for point in points[1:]:
        above = int(np.count_nonzero(scores[~labels].astype(float) >= point.threshold))
        assert above == point.trials == pytest.approx(point.false_alarm * 20000, abs=1)
        assert point.supported == (above >= 10)
    assert [point.supported for point in points] == [True, True, True, False]
    accepted = np.mean(scores[~labels] >= points[0].threshold)
    assert accepted == pytest.approx(points[0].false_alarm, abs=1e-3)


def test_a_rate_below_one_trial_rejects_all() -> None:
    scores, labels = gaussians(20, 50)
    scores[~labels] += 2.0  # every target is below every non-target
    point = operating_points(scores, labels)[-1]
    assert point.threshold > scores.max() and (point.trials, point.supported) == (0, False)


def test_costs_of_ratios() -> None:
    scores, labels = gaussians(2000, 20000)
    llr = 8 * scores - 2
    for prior in (0.01, 0.05, 0.5):
        least = min_dcf(llr, labels, prior)[0]
        assert least <= act_dcf(llr, labels, prior) < least + 0.05
        assert act_dcf(llr + 3, labels, prior) > act_dcf(llr, labels, prior)
    assert min_cllr(scores, labels) <= cllr(llr, labels) < min_cllr(scores, labels) + 0.02
    # The least is that of the order of the trials; the other moves with each ratio.
    assert min_cllr(np.exp(scores), labels) == pytest.approx(min_cllr(scores, labels))
    assert cllr(3 * llr, labels) > cllr(llr, labels)
    ties = np.round(scores, 1)
    assert min_cllr(ties, labels) >= min_cllr(scores, labels)


def test_reliability_shows_ratios_that_say_too_much() -> None:
    scores, labels = gaussians(4000, 40000)
    good, loud = (reliability(times * (8 * scores - 2), labels) for times in (1.0, 2.0))
    assert sum(good["nontargets"]) <= 40000 and len(good["said"]) > 8
    for table, slope in ((good, 1.0), (loud, 0.5)):
        found = np.polyfit(table["said"], table["found"], 1)[0]
        assert found == pytest.approx(slope, rel=0.2)


def test_reliability_of_equal_and_of_endless_ratios() -> None:
    """The order of the list says nothing, and a posterior may be 1 to the last digit."""
    labels = np.arange(100) < 30
    for order in (labels, labels[::-1]):
        table = reliability(np.zeros(100), order)
        assert table["found"] == pytest.approx([0.0]) and table["said"] == pytest.approx([0.0])
        assert (table["targets"], table["nontargets"]) == ([30], [70])
    llr = np.where(labels, 60.0, -900.0)
    llr[[0, -1]] = -900.0, 60.0  # an error of each kind
    table = reliability(llr, labels)
    assert table["said"] == pytest.approx([-900.0, 60.0])
    assert table["found"] == pytest.approx(np.log([(1 / 30) / (69 / 70), (29 / 30) / (1 / 70)]))


def test_cross_validation_keeps_speakers_apart() -> None:
    """A quality that is a speaker's own number helps nobody else."""
    speakers = np.repeat(np.arange(15), 4)
    first, second = np.triu_indices(60, k=1)
    labels = speakers[first] == speakers[second]
    generator = np.random.default_rng(0)
    scores = generator.normal(labels * 1.5)
    # What moves a trial is its speakers', and the quality tells it for one part of them alone.
    values = {"score": scores, "norm": generator.normal(size=15)[speakers[first]]}
    llr = cross_validated_llr(values, labels, speakers[first], speakers[second])
    own = fit_calibration(values, labels).llr(values)
    assert cllr(llr, labels) > cllr(own, labels)
    assert np.array_equal(
        llr, cross_validated_llr(values, labels, speakers[first], speakers[second])
    )
    # In other words for the speakers, it is the same.
    named = speakers * 7 + 3
    same = cross_validated_llr(values, labels, named[first], named[second])
    np.testing.assert_array_equal(same, llr)
    few = speakers[first] < 3
    with refused("few-trials"):
        cross_validated_llr(
            {"score": scores[few]}, labels[few], speakers[first][few], speakers[second][few]
        )


def many_trials() -> tuple[TrialList, np.ndarray]:
    names = [f"{speaker}/s/{number}" for speaker in range(20) for number in range(4)]
    owners = [name.split("/")[0] for name in names]
    trials = make_trials(names, owners, ["s"] * len(names))
    return trials, np.array([int(name.split("/")[0]) for name in trials.names])


def test_figures_of_a_list() -> None:
    trials, speakers = many_trials()
    scores = np.random.default_rng(0).normal(trials.labels * 0.5, 0.25)
    calibration = Calibration(-2.0, {"score": 8.0}, 0.05)
    point = OperatingPoint("false_alarm_0.01", 0.01, 0.5, 31, True)
    decisions = Decisions({"title": "others"}, calibration, (point,))
    llr = calibration.llr({"score": scores})
    found = measure_calibrated(decisions, llr, trials, scores, speakers)
    assert found["fitted_on"] == {"title": "others"} and found["measures"] == ["score"]
    low, high = found["cllr"]["interval_95"]
    assert low < found["cllr"]["value"] == cllr(llr, trials.labels) < high
    for prior in (0.01, 0.05):
        cost = found["act_dcf"][str(prior)]
        assert cost["value"] == act_dcf(llr, trials.labels, prior)
        assert cost["interval_95"][0] <= cost["value"] <= cost["interval_95"][1]
        assert found["min_dcf"][str(prior)] <= cost["value"]
    (at,) = found["operating_points"]
    rates = at.pop("found")
    assert at == {
        "name": "false_alarm_0.01",
        "false_alarm": 0.01,
        "threshold": 0.5,
        "trials": 31,
        "supported": True,
    }
    assert rates["false_alarm"]["value"] == np.mean(scores[~trials.labels] >= 0.5)
    assert rates["miss"]["value"] == np.mean(scores[trials.labels] < 0.5)
    for rate in rates.values():
        assert rate["interval_95"][0] < rate["value"] < rate["interval_95"][1]
    alone = measure_calibrated(decisions, llr, trials, scores, None)
    assert alone["cllr"] == {"value": found["cllr"]["value"], "interval_95": None}
    assert alone["reliability"] == found["reliability"]


def test_decisions_under_a_condition_have_the_intervals_of_the_same_decisions() -> None:
    trials, speakers = many_trials()
    scores = np.random.default_rng(0).normal(trials.labels * 0.5, 0.25)
    found = measure_side(scores, trials, speakers, 0.5)
    decisions = Decisions({}, None, (OperatingPoint("false_alarm_0.01", 0.01, 0.5, 31, True),))
    at = measure_calibrated(decisions, scores, trials, scores, speakers)["operating_points"][0]
    for kind in ("false_alarm", "miss"):
        expected = at["found"][kind]
        assert found[kind] == pytest.approx(expected["value"])
        assert found[f"{kind}_interval_95"] == pytest.approx(expected["interval_95"])
    sides = speakers[trials.enrol_index], speakers[trials.test_index]
    bounds = eer_interval(scores, trials.labels, *sides)
    assert bounds is not None
    assert found["eer_interval_95"] == pytest.approx([100 * bound for bound in bounds])


def test_the_note_tells_fits_on_other_trials() -> None:
    fitted_on = {"title": "held out", "targets": 9, "nontargets": 4000, "speakers": 5}
    point = {"name": "false_alarm_0.01", "trials": 40, "supported": True}
    fit = {"fitted_on": fitted_on, "operating_points": [point], "cross_validated": False}
    same, other = (
        {**fit, "fitted_on": {**fitted_on, **more}} for more in ({"digest": 1}, {"targets": 8})
    )
    plain = calibration_note([{"calibrated": fit}, {"calibrated": None}, {"calibrated": same}])
    assert "4,000 non-target trials" in plain and "other trials" not in plain
    assert "of other trials" in calibration_note([{"calibrated": fit}, {"calibrated": other}])


def test_what_is_fitted_is_kept_with_its_weights(tmp_path: Path) -> None:
    scores, labels = gaussians(100, 3000)
    decisions = fit_decisions({"score": scores}, labels, "held-out speakers", 30)
    assert decisions.fitted_on == {
        "title": "held-out speakers",
        "targets": 100,
        "nontargets": 3000,
        "speakers": 30,
        "digest": decisions.fitted_on["digest"],
    }
    other = fit_decisions({"score": scores + 1e-9}, labels, "held-out speakers", 30)
    assert other.fitted_on["digest"] != decisions.fitted_on["digest"]
    assert kept_decisions(tmp_path, "0f") is None
    keep_decisions(tmp_path, Fitted(decisions), "0f")
    assert kept_decisions(tmp_path, "0f") == Fitted(decisions)
    assert kept_decisions(tmp_path, "77") is None
    (tmp_path / DECISIONS).write_text("{", encoding="utf-8")
    with refused("damaged-file", tmp_path / DECISIONS, "score.py"):
        kept_decisions(tmp_path, "0f")
    rows = unit_cohort(Embeddings(["m"], np.ones((1, 3), dtype=np.float32), ""))
    weighs = replace(decisions, calibration=Calibration(0.0, {"score": 1.0, "cohort": 2.0}, 0.05))
    keep_decisions(tmp_path, Fitted(weighs, rows), "0f")
    found = kept_decisions(tmp_path, "0f")
    assert found is not None and found.cohort is not None
    assert found.cohort.dtype == np.float16 and found.cohort.tolist() == rows.tolist()
    (tmp_path / "cohort.npy").write_bytes(b"no array")
    with refused("damaged-file", tmp_path / "cohort.npy"):
        kept_decisions(tmp_path, "0f")
    keep_decisions(tmp_path, None, "0f")
    assert not list(tmp_path.iterdir())


def test_values_of_trials_are_those_of_their_sides() -> None:
    """Models have the seconds of all their utterances, and the embedding that is their mean."""
    trials = TrialList.from_names(["m", "a"], ["c", "c"], [True, False], {"m": ("a", "b")})
    vectors = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    members = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    cohort = unit_cohort(Embeddings([str(n) for n in range(40)], members, ""))
    assert cohort.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(cohort.astype(float), axis=1), 1.0, atol=1e-3)
    found = values_of(
        trials,
        np.array([0.3, 0.1], dtype=np.float32),
        Embeddings(["a", "b", "c"], vectors, ""),
        ("duration", "norm", "cohort"),
        {"a": 1.0, "b": 2.0, "c": 2.5}.__getitem__,
        cohort,
    )
    sides = vectors[:2].mean(axis=0), vectors[0], vectors[2]
    norms = [float(np.linalg.norm(side)) for side in sides]
    units = np.array([side / norm for side, norm in zip(sides, norms, strict=True)])
    means = np.sort(units @ cohort.astype(np.float64).T)[:, -10:].mean(axis=1)
    for number, (side, seconds) in enumerate(((0, 3.0), (1, 1.0))):
        expected = trial_values(
            [0.3, 0.1][number],
            seconds=(seconds, 2.5),
            norms=(norms[side], norms[2]),
            cohort=(means[side], means[2]),
        )
        assert {name: each[number] for name, each in found.items()} == pytest.approx(
            expected, abs=1e-5
        )
