"""Cosine scores."""

from __future__ import annotations

import numpy as np
import pytest

from speechbrain_ext.verification.embeddings import Embeddings
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.trials import TrialList
from tests.refusals import refused

IDS = [f"u{n}" for n in range(300)]


def _embeddings(scale: float = 1.0) -> Embeddings:
    vectors = np.random.default_rng(1).standard_normal((len(IDS), 64)) * scale
    return Embeddings(IDS, vectors.astype(np.float32), "")


def _trials(count: int) -> TrialList:
    rng = np.random.default_rng(2)
    enrol, test = rng.integers(0, len(IDS), (2, count))
    return TrialList(np.array(IDS), enrol.astype(np.int32), test.astype(np.int32), enrol == test)


# Fewer, exactly and more than one block, and lengths whose squares float32 cannot hold.
@pytest.mark.parametrize(
    ("count", "scale"), [(1, 1.0), (1024, 1.0), (3000, 1.0), (500, 1e25), (500, 1e-25)]
)
def test_scores_equal_those_in_double_precision(count: int, scale: float) -> None:
    """Blocks and float32 change nothing beyond rounding."""
    embeddings, trials = _embeddings(scale), _trials(count)
    row = {name: n for n, name in enumerate(embeddings.ids)}
    exact = embeddings.vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    expected = [
        exact[row[e]] @ exact[row[t]] for e, t in zip(trials.enrol, trials.test, strict=True)
    ]
    scores = cosine_scores(trials, embeddings)
    assert scores.dtype == np.float32
    assert np.abs(scores).max() <= 1.0
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_order_of_the_embeddings_does_not_matter() -> None:
    """Rows are found by name."""
    embeddings, trials = _embeddings(), _trials(200)
    turned = Embeddings(embeddings.ids[::-1], embeddings.vectors[::-1].copy(), "")
    np.testing.assert_array_equal(cosine_scores(trials, turned), cosine_scores(trials, embeddings))


def test_unknown_utterances_are_counted_and_five_are_named() -> None:
    """The sentence stays short however many are missing."""
    trials = TrialList.from_names(["u0"] * 7, [f"x{n}" for n in range(7)], [False] * 7)
    with refused("missing-embedding", "7 ", "x0, x1, x2, x3, x4, …;"):
        cosine_scores(trials, _embeddings())


def test_names_that_no_trial_uses_need_no_embedding() -> None:
    """Only what is compared must exist, and be sound."""
    trials = TrialList(
        np.array(["u0", "unused", "u1"]), np.array([0]), np.array([2]), np.array([False])
    )
    embeddings = _embeddings()
    embeddings.vectors[5] = np.nan
    assert cosine_scores(trials, embeddings).shape == (1,)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_embeddings_without_direction_are_named(value: float) -> None:
    """Zero, NaN and infinity give no cosine; the utterance is told."""
    embeddings = _embeddings()
    embeddings.vectors[7] = value
    trials = TrialList.from_names(["u0"], ["u7"], [False])
    with refused("bad-embedding", " u7 "):
        cosine_scores(trials, embeddings)


def test_a_model_is_the_mean_of_its_utterances() -> None:
    """Not normalised before, so a long embedding counts for more; trials without models stay."""
    embeddings = _embeddings()
    embeddings.vectors[1] *= 3
    models = {"m": ("u0", "u1", "u2"), "n": ("u9",)}
    trials = TrialList.from_names(
        ["m", "m", "n", "u3"], ["u3", "u0", "u4", "u4"], [True, True, False, False], models
    )
    mean = embeddings.vectors[:3].astype(np.float64).mean(axis=0)
    sides = [mean, mean, embeddings.vectors[9], embeddings.vectors[3]]
    expected = [
        one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        for one, other in zip(sides, embeddings.vectors[[3, 0, 4, 4]], strict=True)
    ]
    np.testing.assert_allclose(cosine_scores(trials, embeddings), expected, atol=1e-6)
    lacking = TrialList.from_names(["m"], ["u3"], [True], {"m": ("u0", "x")})
    with refused("missing-embedding", "1 of the 2", " m ", " x;"):
        cosine_scores(lacking, embeddings)
