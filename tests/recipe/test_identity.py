"""An experiment is its settings and what it is made from; another one does not get its folder."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from speechbrain_ext.systems.experiment import kept_sha256
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe.tiny import RECIPE, STUDENT, TEACHER, make_corpus, run
from tests.refusals import refused

pytestmark = pytest.mark.slow

Change = Callable[[Path], None]
FULL = f"""
!include:{RECIPE}/hparams/v2_aligned_teacher_classifier.yaml
includes: [{RECIPE}/hparams/v2_label.yaml, {RECIPE}/hparams/v2_anchors.yaml]
system: full
teacher_classifier: !ref <classifier_start>
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a teacher, a first student, and a student made from all of them."""
    root = tmp_path_factory.mktemp("whole")
    make_corpus(root / "corpus")
    (root / "full.yaml").write_text(FULL)
    (root / "noise").mkdir()
    for index in range(2):
        hiss = np.random.default_rng(index).standard_normal(4000)
        soundfile.write(root / "noise" / f"{index}.wav", 0.1 * hiss, 16000)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(RECIPE)
        base = [*TEACHER, "--number_of_epochs", 1]
        run_training(TeacherBrain, given(root, base, "teacher"))
        run_training(DistillBrain, given(root, student(root), "first"))
        run_training(DistillBrain, given(root, full(root), "student"))
    return root


@pytest.fixture
def place(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to change, where the settings name it."""
    monkeypatch.chdir(RECIPE)
    shutil.copytree(whole, tmp_path / "place")
    for path in (tmp_path / "place").rglob("*"):
        if path.suffix in {".csv", ".yaml"}:
            path.write_text(path.read_text().replace(str(whole), str(tmp_path / "place")))
    return tmp_path / "place"


def given(root: Path, base: list[Any], folder: str) -> list[str]:
    where = ["--corpus_dir", root / "corpus", "--output_folder", root / folder]
    return [*map(str, [*base, *where])]


def student(root: Path) -> list[Any]:
    return [*STUDENT, "--number_of_epochs", 1, "--teacher_folder", root / "teacher"]


def full(root: Path) -> list[Any]:
    """Of the aligned student, whose first weights come from elsewhere."""
    base = [root / "full.yaml", *student(root)[1:]]
    return [*base, "--start_from", root / "first", "--noise_folder", root / "noise"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def other_speaker(root: Path) -> None:
    """Another choice of held-out speakers, as many as before."""
    rename(root / "corpus" / "manifests" / "train.csv", "id003", "id903")


def other_trials(root: Path) -> None:
    path = root / "corpus" / "manifests" / "trials" / "valid.txt"
    path.write_text("\n".join(path.read_text().splitlines()[1:]) + "\n")


def other_noise(root: Path) -> None:
    (root / "noise" / "1.wav").unlink()


def other_valid_speakers(root: Path) -> None:
    rename(root / "corpus" / "manifests" / "valid.csv", "id051", "id951")


def rename(manifest: Path, before: str, after: str) -> None:
    rows = list(csv.reader(manifest.open(newline="")))
    place = [rows[0].index(name) for name in ("ID", "spk_id")]
    for row in rows:
        for index in place:
            row[index] = row[index].replace(before, after)
    with open(manifest, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def trained_on(name: str, network: str = "embedding_model") -> Change:
    def change(root: Path) -> None:
        path = root / name / "save" / f"{network}.safetensors"
        tensors = load_file(path)
        key = next(key for key, value in tensors.items() if value.is_floating_point())
        tensors[key] += 0.01
        save_file(tensors, path)

    return change


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (other_speaker, ("utterances or speakers", "/train.csv")),
        (other_valid_speakers, ("utterances", "/valid.csv")),
        (other_trials, ("trials", "/valid.txt")),
        (other_noise, ("files", "/noise")),
        (trained_on("teacher"), ("weights of the teacher", "/teacher ")),
        (
            trained_on("teacher", "classifier"),
            ("weights of classifier_start", "/teacher ", "weights of teacher_classifier"),
        ),
        (trained_on("first"), ("weights", "/first ")),
        (trained_on("first", "classifier"), ("weights", "/first ")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("epochs", [1, 2])
def test_what_it_was_made_from_has_changed(
    place: Path, change: Change, facts: tuple[str, ...], epochs: int
) -> None:
    """Finished or to be trained further: it is refused, and nothing of it is touched."""
    change(place)
    before = contents(place / "student")
    with refused("other-inputs", "student", *facts):
        run_training(
            DistillBrain, given(place, [*full(place), "--number_of_epochs", epochs], "student")
        )
    assert contents(place / "student") == before


def test_files_that_lie_elsewhere_are_the_same(place: Path) -> None:
    """Audio that was moved, weights that were written anew: what they hold counts."""
    (place / "corpus" / "train").rename(place / "elsewhere")
    manifest = place / "corpus" / "manifests" / "train.csv"
    text = manifest.read_text().replace(f"{place}/corpus/train/", f"{place}/elsewhere/")
    manifest.write_text(text)
    weights = place / "teacher" / "save" / "embedding_model.safetensors"
    save_file(load_file(weights), weights, metadata={"written": "anew"})
    run_training(DistillBrain, given(place, [*full(place), "--number_of_epochs", 2], "student"))
    assert len((place / "student" / "train_log.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("content", [None, "", "[]"])
def test_weights_of_an_unknown_origin_are_not_trained_on(place: Path, content: str | None) -> None:
    """The file is gone, or a power cut has left it empty."""
    (place / "student" / "made_from.json").unlink()
    if content is not None:
        (place / "student" / "made_from.json").write_text(content)
    with refused("unknown-origin", "made_from.json"):
        run_training(DistillBrain, given(place, full(place), "student"))


def test_two_processes_leave_with_one_sentence(place: Path) -> None:
    other_speaker(place)
    before = contents(place / "teacher")
    base = [*TEACHER, "--number_of_epochs", 2, "--distributed_backend", "gloo"]
    result = run("train_teacher.py", *given(place, base, "teacher"), processes=2)
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "utterances or speakers of" in lines[0], result.stderr
    assert contents(place / "teacher") == before


def test_another_average_of_the_checkpoints_is_made_and_told(place: Path) -> None:
    """The training is not repeated; the weights are, and the files say so."""
    base = [*TEACHER, "--number_of_epochs", 2]
    run_training(TeacherBrain, given(place, base, "teacher"))
    before = kept_sha256(place / "teacher")
    log = (place / "teacher" / "train_log.jsonl").read_text()
    run_training(TeacherBrain, given(place, [*base, "--average_checkpoints", 2], "teacher"))
    assert (place / "teacher" / "train_log.jsonl").read_text() == log
    states = [
        torch.load(path, weights_only=True)["fc.weight"]
        for path in (place / "teacher" / "save").glob("CKPT*/embedding_model.ckpt")
    ]
    kept = load_file(place / "teacher" / "save" / "embedding_model.safetensors")["fc.weight"]
    assert len(states) == 2 and torch.allclose(kept, (states[0] + states[1]) / 2, atol=1e-6)
    assert kept_sha256(place / "teacher") != before
    assert "average_checkpoints: 2" in (place / "teacher" / "hyperparams.yaml").read_text()


def test_what_is_kept_of_it(place: Path) -> None:
    found = json.loads((place / "student" / "made_from.json").read_text())
    keys = {"train_csv", "valid_csv", "valid_trials", "teacher", "classifier_start", "start_from"}
    keys |= {"noise_folder", "teacher_classifier", "anchors"}
    assert found.keys() == keys and {len(digest) for digest in found.values()} == {64}
