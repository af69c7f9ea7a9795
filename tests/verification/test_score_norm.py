"""Scores that a cohort normalises, against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from speechbrain_ext.verification.embeddings import Embeddings
from speechbrain_ext.verification.score_norm import Cohort, normalized_scores
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.trials import TrialList
from tests.refusals import refused

IDS = [f"u{n}" for n in range(40)]
MEMBERS = [f"m{n}" for n in range(25)]


def _made(names: list[str], seed: int, scale: float = 1.0, weights: str = "w") -> Embeddings:
    vectors = np.random.default_rng(seed).standard_normal((len(names), 16)) + 0.5
    return Embeddings(names, (scale * vectors).astype(np.float32), weights)


def _trials(models: dict[str, tuple[str, ...]] | None = None) -> TrialList:
    rng = np.random.default_rng(2)
    enrol = rng.choice(sorted(models) if models else IDS, 300)
    test = rng.choice(IDS, 300)
    return TrialList.from_names(enrol.tolist(), test.tolist(), (enrol == test).tolist(), models)


def _unit(vector: np.ndarray) -> np.ndarray:
    exact = vector.astype(np.float64)
    found: np.ndarray = exact / np.linalg.norm(exact)
    return found


def _by_definition(
    trials: TrialList, vector_of: dict[str, np.ndarray], members: np.ndarray, nearest: int
) -> list[float]:
    """One trial at a time, in double precision."""
    found = []
    for pair in zip(trials.enrol.tolist(), trials.test.tolist(), strict=True):
        first, second = (_unit(vector_of[name]) for name in pair)
        halves = []
        for side in (first, second):
            with_all = sorted(float(side @ _unit(member)) for member in members)
            own = np.array(with_all[-nearest:])
            halves.append((first @ second - own.mean()) / own.std())
        found.append(sum(halves) / 2)
    return found


@pytest.mark.parametrize(
    ("norm", "top_n", "nearest"), [("snorm", None, 25), ("asnorm", None, 10), ("asnorm", 7, 7)]
)
def test_scores_are_those_of_the_definition(norm: str, top_n: int | None, nearest: int) -> None:
    """However long the embeddings are."""
    trials, embeddings, members = _trials(), _made(IDS, 0, 1e-3), _made(MEMBERS, 1, 1e3)
    cohort = Cohort.of(members, norm, top_n)
    assert cohort.nearest == nearest
    scores = normalized_scores(trials, cosine_scores(trials, embeddings), embeddings, cohort)
    vector_of = dict(zip(IDS, embeddings.vectors, strict=True))
    expected = _by_definition(trials, vector_of, members.vectors, nearest)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_a_model_is_the_mean_of_its_utterances() -> None:
    models = {"x": ("u0", "u1", "u2"), "y": ("u3",)}
    trials, embeddings, members = _trials(models), _made(IDS, 0), _made(MEMBERS, 1)
    cohort = Cohort.of(members, "asnorm")
    scores = normalized_scores(trials, cosine_scores(trials, embeddings), embeddings, cohort)
    vector_of = dict(zip(IDS, embeddings.vectors, strict=True))
    vector_of |= {"x": embeddings.vectors[:3].mean(axis=0), "y": embeddings.vectors[3]}
    expected = _by_definition(trials, vector_of, members.vectors, 10)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_a_side_that_scores_high_with_everybody_is_brought_down() -> None:
    """Which is what the norm is for: one threshold fits all voices."""
    rng = np.random.default_rng(3)
    common = np.ones(16)
    plain, alike = rng.standard_normal((2, 60, 16))
    vectors = np.concatenate((plain, alike + 3 * common)).astype(np.float32)
    names = [f"{kind}{n}" for kind in ("plain", "alike") for n in range(60)]
    embeddings = Embeddings(names, vectors, "w")
    enrol, test = [names[0]] * 59 + [names[60]] * 59, names[1:60] + names[61:]
    trials = TrialList.from_names(enrol, test, [False] * len(test))
    members = rng.standard_normal((200, 16)) + np.where(np.arange(200) % 2, 3.0, 0.0)[:, None]
    cohort = Cohort.of(
        Embeddings([f"m{n}" for n in range(200)], members.astype(np.float32), "w"), "asnorm"
    )
    cosines = cosine_scores(trials, embeddings)
    scores = normalized_scores(trials, cosines, embeddings, cohort)

    def apart(values: np.ndarray) -> float:
        """How far the non-target scores of the two groups lie apart, in deviations of one."""
        return float((values[59:].mean() - values[:59].mean()) / values[:59].std())

    assert apart(cosines) > 2.5
    assert abs(apart(scores)) < 1.0


@pytest.mark.parametrize("norm", ["asnorm", "snorm"])
def test_few_members_are_refused(norm: str) -> None:
    with refused("few-speakers", "9 members", "10"):
        Cohort.of(_made(MEMBERS[:9], 0), norm)
    assert Cohort.of(_made(MEMBERS[:10], 0), norm).norm == "S-norm"


def test_more_than_there_are_is_refused() -> None:
    with refused("bad-setting", "--top_n 26", "25 members"):
        Cohort.of(_made(MEMBERS, 0), "asnorm", 26)


def test_cohorts_that_say_nothing_are_refused() -> None:
    trials, embeddings = _trials(), _made(IDS, 0)
    scores = cosine_scores(trials, embeddings)
    one = Embeddings(MEMBERS, np.ones((25, 16), np.float32), "w")
    with refused("bad-embedding", "40 utterances", "the same score with all"):
        normalized_scores(trials, scores, embeddings, Cohort.of(one, "asnorm"))
    with refused("other-weights", "other weights"):
        others = Cohort.of(_made(MEMBERS, 0, weights="v"), "asnorm")
        normalized_scores(trials, scores, embeddings, others)
    both = Embeddings(MEMBERS, _made(MEMBERS, 1).vectors, "w", {"view": "both"})
    with refused("other-settings", "--view both", "--view full"):
        normalized_scores(trials, scores, embeddings, Cohort.of(both, "asnorm"))
    members = _made(MEMBERS, 1)
    for bad in (0.0, np.nan):
        members.vectors[3] = bad
        with refused("bad-embedding", "embedding of m3"):
            Cohort.of(members, "asnorm")
