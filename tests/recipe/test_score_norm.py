"""Stage 4's scoring command with a cohort that normalises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from speechbrain_ext.systems.experiment import save_weights, weights_sha256
from speechbrain_ext.verification.embeddings import (
    Embeddings,
    load_embeddings,
    save_embeddings,
)
from speechbrain_ext.verification.metrics import equal_error_rate
from speechbrain_ext.verification.score_norm import Cohort, normalized_scores
from speechbrain_ext.verification.tables import cells_of
from speechbrain_ext.verification.trials import read_trials
from tests.recipe.scoring import (
    Folders,
    make_folders,
    result_of,
    score,
    score_column,
)
from tests.refusals import refused


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return make_folders(tmp_path)


def _cohort(folders: Folders, members: int = 30, weights: str = "hash0") -> Path:
    vectors = np.random.default_rng(5).normal(size=(members, 16)).astype(np.float32)
    path = folders.student / "embeddings" / "cohort.npz"
    save_embeddings(path, Embeddings([f"m{n}" for n in range(members)], vectors, weights))
    return path


def test_a_cohort_normalises(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    _cohort(folders)
    score(folders, "--trials", "test", "--score_norm", "asnorm")
    result = result_of(folders.student, "test_normalized")
    assert (result["system"], result["trials"]) == ("v2, AS-norm", "test")
    assert result["scores"] == "AS-norm, the 10 nearest of a cohort of 30"
    assert result_of(folders.student, "test")["scores"] == "cosine"
    assert result["weights_sha256"] == "hash0"
    trials = read_trials(folders.manifests / "trials" / "test.txt")
    embeddings = load_embeddings(folders.student / "embeddings" / "test.npz")
    cosines = score_column(folders.student / "scores" / "test.txt")
    cohort = Cohort.of(load_embeddings(_cohort(folders)), "asnorm")
    expected = normalized_scores(trials, cosines, embeddings, cohort)
    scores = score_column(folders.student / "scores" / "test_normalized.txt")
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert result["eer"] == pytest.approx(100 * equal_error_rate(scores, trials.labels)[0])
    assert " ".join(cells_of(result)[:1]) in capsys.readouterr().out
    # Again by another cohort, and with all of it.
    file = folders.manifests / "others.npz"
    _cohort(folders, 12).rename(file)
    score(folders, "--trials", "test", "--score_norm", "snorm", "--cohort", file)
    result = result_of(folders.student, "test_normalized")
    assert result["scores"] == "S-norm, a cohort of 12"
    score(folders, "--trials", "test")
    assert not list(folders.student.rglob("test_normalized*"))


def test_cohorts_that_cannot_be_used(folders: Folders, tmp_path: Path) -> None:
    with refused("earlier-stage", "cohort.npz is missing", "extract.py", "--cohort"):
        score(folders, "--score_norm", "asnorm")
    with refused("missing-option", "--cohort x.npz", "--score_norm"):
        score(folders, "--cohort", "x.npz")
    with refused("missing-file", "x.npz"):
        score(folders, "--score_norm", "asnorm", "--cohort", "x.npz")
    path = _cohort(folders, 2)
    with refused("few-speakers", path, "2 members"):
        score(folders, "--score_norm", "asnorm", "--cohort", path)
    path = _cohort(folders, weights="others")
    with refused("other-weights", "valid.txt", folders.student, "embed it again"):
        score(folders, "--score_norm", "asnorm")
    for top_n, norm, code in (("1", "asnorm", "bad-option"), ("9", "snorm", "bad-command")):
        with refused(code, f"--top_n {top_n}"):
            score(folders, "--score_norm", norm, "--top_n", top_n)
    path = _cohort(folders)
    with refused("bad-setting", path, "--top_n 31", "30 members"):
        score(folders, "--score_norm", "asnorm", "--top_n", "31")


def test_a_cohort_of_other_weights_than_are_kept(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    network = torch.nn.Linear(2, 2)
    save_weights(folders.student, network, {})
    for name in ("valid", "test"):
        path = folders.student / "embeddings" / f"{name}.npz"
        found = load_embeddings(path)
        save_embeddings(path, Embeddings(found.ids, found.vectors, weights_sha256(network)))
    path = _cohort(folders)
    with refused("other-weights", path, folders.student, "extract.py", "--cohort"):
        score(folders, "--score_norm", "asnorm")
    capsys.readouterr()
    with refused("other-weights", path, "embed it again"):
        score(folders, "--score_norm", "asnorm", "--cohort", path)
    assert "not calibrated" not in capsys.readouterr().out  # nothing was begun


def test_few_training_speakers_are_no_cohort(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is said, and nothing fails: run.sh asks for the norm unasked."""
    _cohort(folders, 9)
    score(folders, "--score_norm", "asnorm")
    assert "Scores are not normalised: 9 training speakers" in capsys.readouterr().out
    assert {path.stem for path in (folders.student / "results").iterdir()} == {"valid", "test"}
