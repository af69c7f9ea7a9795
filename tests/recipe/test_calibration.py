"""Stage 4's scoring command as it calibrates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechbrain_ext.decisions import Decisions
from speechbrain_ext.verification.calibration import fit_calibration, operating_points
from speechbrain_ext.verification.embeddings import Embeddings, load_embeddings, save_embeddings
from speechbrain_ext.verification.likelihood_ratios import act_dcf, cllr
from speechbrain_ext.verification.scores import cosine_scores
from speechbrain_ext.verification.trials import read_trials
from tests.recipe.scoring import Folders, make_folders, result_of, score
from tests.refusals import refused


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return make_folders(tmp_path)


def scored(folders: Folders, name: str) -> tuple[np.ndarray, np.ndarray]:
    trials = read_trials(folders.manifests / "trials" / f"{name}.txt")
    embeddings = load_embeddings(folders.student / "embeddings" / f"{name}.npz")
    return cosine_scores(trials, embeddings), trials.labels


def kept(folders: Folders) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folders.student / "decisions.json").read_text())
    return content


def test_the_fit_is_of_the_held_out_speakers_alone(
    folders: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    score(folders, "--trials", "test")
    scores, labels = scored(folders, "valid")
    decisions = Decisions.read(kept(folders))
    assert kept(folders)["weights_sha256"] == "hash0"
    assert decisions.fitted_on["title"] == "valid list"
    assert decisions.fitted_on["speakers"] == 12
    assert decisions.calibration is not None
    expected = fit_calibration({"score": scores}, labels)
    assert decisions.calibration.weights == pytest.approx(expected.weights)
    assert decisions.operating_points == operating_points(scores, labels)
    # What the test list then gives.
    scores, labels = scored(folders, "test")
    found = result_of(folders.student, "test")["calibrated"]
    llr = expected.llr({"score": scores})
    assert found["fitted_on"] == decisions.fitted_on and not found["cross_validated"]
    assert found["cllr"]["value"] == pytest.approx(cllr(llr, labels))
    assert found["act_dcf"]["0.01"]["value"] == pytest.approx(act_dcf(llr, labels, 0.01))
    at = next(p for p in found["operating_points"] if p["name"] == "false_alarm_0.01")
    rate = float(np.mean(scores[~labels] >= at["threshold"]))
    assert at["found"]["false_alarm"]["value"] == pytest.approx(rate)
    assert (folders.student / "plots" / "test_reliability.svg").is_file()
    shown = " ".join(capsys.readouterr().out.split())
    assert "fitted on valid list" in shown and f"{found['cllr']['value']:.3f}" in shown
    # A test list changes nothing of it.
    path = folders.student / "embeddings" / "test.npz"
    before, after = load_embeddings(path), kept(folders)
    noise = np.random.default_rng(9).normal(size=before.vectors.shape).astype(np.float32)
    save_embeddings(path, Embeddings(before.ids, noise, "hash0"))
    score(folders)
    assert kept(folders) == after
    assert result_of(folders.student, "valid")["calibrated"]["cross_validated"]


def test_every_scale_has_a_fit_of_its_own(folders: Folders) -> None:
    score(folders, "--fuse", folders.teacher, "--enrol_with", folders.teacher)
    digests = {
        ending: result_of(folders.student, f"test{ending}")["calibrated"]["fitted_on"]["digest"]
        for ending in ("", "_fusion", "_enrolled")
    }
    assert len(set(digests.values())) == 3
    assert kept(folders)["fitted_on"]["digest"] == digests[""]


def test_qualities_are_measured(folders: Folders) -> None:
    vectors = np.random.default_rng(5).normal(size=(30, 16)).astype(np.float32)
    cohort = Embeddings([f"m{n}" for n in range(30)], vectors, "hash0")
    with refused("earlier-stage", "cohort.npz", "extract.py", "--cohort"):
        score(folders, "--calibration", "cohort")
    save_embeddings(folders.student / "embeddings" / "cohort.npz", cohort)
    score(folders, "--calibration", "cohort", "norm", "duration")
    weights = kept(folders)["calibration"]["weights"]
    assert set(weights) == {"score", "duration", "norm", "cohort"}
    assert weights["duration"] == 0.0  # all are of two seconds
    assert weights["norm"] and weights["cohort"]
    found = result_of(folders.student, "test")["calibrated"]
    assert found["measures"] == ["score", "duration", "norm", "cohort"]


def test_none_fits_nothing(folders: Folders) -> None:
    score(folders)
    score(folders, "--calibration", "none")
    assert not (folders.student / "decisions.json").exists()
    assert result_of(folders.student, "test")["calibrated"] is None
    assert not list((folders.student / "plots").glob("*reliability*"))
    with refused("bad-command", "none score"):
        score(folders, "--calibration", "none", "score")


def test_too_little_to_fit_is_said(folders: Folders, capsys: pytest.CaptureFixture[str]) -> None:
    """And all else is scored: run.sh asks for it unasked."""
    path = folders.manifests / "trials" / "valid.txt"
    lines = path.read_text().splitlines()
    few = [line for line in lines if line.startswith("1")][:9]
    path.write_text("\n".join([*few, *(line for line in lines if line.startswith("0"))]) + "\n")
    score(folders)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Scores are not calibrated: 9 target trials" in shown
    assert result_of(folders.student, "test")["calibrated"] is None
    (folders.student / "embeddings" / "valid.npz").unlink()
    score(folders, "--trials", "test")
    assert "valid.npz is missing" in " ".join(capsys.readouterr().out.split())
