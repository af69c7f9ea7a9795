"""Operating points and calibrations, as a model folder holds them."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from speechbrain_ext.decisions import (
    Calibration,
    Decisions,
    OperatingPoint,
    bayes_threshold,
    cohort_value,
    default_top_n,
    trial_values,
)
from tests.refusals import refused


def decisions() -> Decisions:
    points = (
        OperatingPoint("eer", 0.042, 0.25, 400, True),
        OperatingPoint("false_alarm_0.01", 0.01, 0.31, 120, True),
        OperatingPoint("false_alarm_0.0001", 0.0001, 0.55, 1, False),
    )
    fitted_on = {
        "title": "held-out",
        "targets": 300,
        "nontargets": 9000,
        "speakers": 48,
        "digest": "0f",
    }
    return Decisions(fitted_on, Calibration(-4.0, {"score": 9.5, "norm": 0.5}, 0.05), points)


def test_json_keeps_everything() -> None:
    kept = decisions()
    assert Decisions.read(json.loads(json.dumps(kept.tree()))) == kept
    bare = Decisions({}, None, ())
    assert Decisions.read(json.loads(json.dumps(bare.tree()))) == bare


def broken() -> list[Any]:
    trees: list[Any] = [None, [], "decisions"]
    for path, value in (
        (("calibration", "bias"), float("nan")),
        (("calibration", "bias"), "high"),
        (("calibration", "weights"), [1.0]),
        (("calibration", "weights"), {"score": 1.0, "shoe size": 2.0}),
        (("operating_points",), [{"name": "eer"}]),
        (("operating_points",), [{**asdict(decisions().operating_points[0]), "trials": math.inf}]),
        (("operating_points",), 3),
        (("fitted_on",), 3),
    ):
        tree = copy.deepcopy(decisions().tree())
        place = tree
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        trees.append(tree)
    return trees


@pytest.mark.parametrize("tree", broken())
def test_what_is_not_whole_is_refused(tree: Any) -> None:
    with refused("damaged-file", "export the model again"):
        Decisions.read(tree)


def test_operating_points_are_had_by_their_rate() -> None:
    assert decisions().at(1e-2).threshold == 0.31
    assert not decisions().at(1e-4).supported
    # The equal error rate is no rate that somebody asked for.
    with refused("no-threshold", "0.042", "0.01 or 0.0001"):
        decisions().at(0.042)
    with refused("no-threshold", "0.01"):
        Decisions({}, None, ()).at(0.01)


def test_an_llr_is_of_a_trial_or_of_many() -> None:
    calibration = decisions().calibration
    assert calibration is not None
    scores, norms = np.array([0.1, 0.7]), np.array([1.0, 2.0])
    many = calibration.llr({"score": scores, "norm": norms, "duration": None})
    each = [
        calibration.llr({"score": float(score), "norm": float(norm)})
        for score, norm in zip(scores, norms, strict=True)
    ]
    assert many.tolist() == pytest.approx(each)
    assert isinstance(each[0], float)
    with pytest.raises(KeyError):
        calibration.llr({"score": 0.5})


@pytest.mark.parametrize("prior", (0.0, 1.0, -1.0, math.nan))
def test_a_prior_is_a_probability(prior: float) -> None:
    with refused("bad-option", prior):
        bayes_threshold(prior)


@pytest.mark.parametrize("cost", (0.0, -1.0, math.inf, math.nan))
def test_costs_are_above_zero(cost: float) -> None:
    with refused("bad-option", "c_fa", cost):
        bayes_threshold(0.01, c_fa=cost)


def test_the_threshold_is_where_both_choices_cost_the_same() -> None:
    prior, c_miss, c_fa = 0.05, 3.0, 2.0
    ratio = math.exp(bayes_threshold(prior, c_miss, c_fa))
    assert c_miss * prior * ratio == pytest.approx(c_fa * (1 - prior))


def test_the_nearest_of_a_cohort_count() -> None:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((30, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    units, cohort = rows[:5], rows[5:]
    expected = np.sort(units @ cohort.T)[:, -10:].mean(1)
    found = cohort_value(units, cohort, default_top_n(len(cohort)))
    assert found == pytest.approx(expected)
    assert cohort_value(units[0], cohort, 10) == pytest.approx(expected[0])
    # As it is stored; and with no more members than are to count.
    halves = cohort_value(units, cohort.astype(np.float16), 10)
    assert halves == pytest.approx(expected, abs=1e-3)
    assert cohort_value(units, cohort, 99) == pytest.approx((units @ cohort.T).mean(1))


def test_the_sides_of_a_trial_change_nothing() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.uniform(0.5, 9.0, (2, 3, 6))
    names = ("seconds", "norms", "cohort")
    one_way = trial_values(
        first[0], **{name: (first[n], second[n]) for n, name in enumerate(names)}
    )
    other_way = trial_values(
        first[0], **{name: (second[n], first[n]) for n, name in enumerate(names)}
    )
    assert set(one_way) == {"score", "duration", "norm", "cohort"}
    for name in one_way:
        assert one_way[name].tolist() == other_way[name].tolist()
