"""Students of a cached teacher, and students whose classifier starts aligned with the teacher."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from speechbrain_ext.lobes.lstm_autoencoder import LSTMAutoencoder
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe.killing import run_until
from tests.recipe.tiny import RECIPE, STUDENT, TEACHER, make_corpus, run
from tests.refusals import refused

pytestmark = pytest.mark.slow

Distil = Callable[..., Path]


@pytest.fixture(autouse=True)
def in_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECIPE)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("place") / "tones")


@pytest.fixture(scope="module")
def trained_teacher(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "teacher"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(RECIPE)
        arguments = [*TEACHER, "--corpus_dir", corpus, "--output_folder", folder]
        run_training(TeacherBrain, [*map(str, arguments), "--number_of_epochs", "1"])
    result = run("extract.py", folder, "--manifests", corpus / "manifests", "--sets", "train")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def teacher(trained_teacher: Path, tmp_path: Path) -> Path:
    """A copy without a cache."""
    return shutil.copytree(trained_teacher, tmp_path / "teacher")


@pytest.fixture
def distil(corpus: Path, teacher: Path, tmp_path: Path) -> Distil:
    def train(system: str, *arguments: Any, folder: str = "student") -> Path:
        options = [f"hparams/{system}.yaml", *STUDENT[1:], "--number_of_epochs", 1]
        options += ["--corpus_dir", corpus, "--teacher_folder", teacher]
        options += ["--output_folder", tmp_path / folder, *arguments]
        run_training(DistillBrain, [*map(str, options)])
        return tmp_path / folder

    return train


def weights_of(folder: Path, name: str = "embedding_model") -> dict[str, torch.Tensor]:
    return load_file(folder / "save" / f"{name}.safetensors")


def extracted(teacher: Path) -> dict[str, np.ndarray]:
    with np.load(teacher / "embeddings" / "train.npz") as file:
        return dict(zip(file["ids"].tolist(), file["embeddings"], strict=True))


def table_of(cache: Path) -> np.ndarray:
    return np.load(cache / "embeddings.npy")


VALID = 16  # utterances of validation, which the teacher hears whenever a training starts


class Counter:
    """Of the utterances that the teacher embeds, but for the one by which a cache knows it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.utterances = 0
        forward = LSTMAutoencoder.forward

        def counted(network: Any, feats: torch.Tensor, *arguments: Any, **options: Any) -> Any:
            self.utterances += len(feats) if len(feats) > 1 else 0
            return forward(network, feats, *arguments, **options)

        monkeypatch.setattr(LSTMAutoencoder, "forward", counted)


def test_the_teacher_runs_once_and_says_what_extraction_says(
    distil: Distil, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    distil("v2_cached", "--max_batch_seconds", 6)  # 24 utterances of a second
    assert counter.utterances == 24 + VALID
    expected = extracted(teacher)
    assert (
        np.abs(table_of(teacher / "cache/tones/whole") - np.stack([*expected.values()])).max()
        < 1e-5
    )
    distil("v2_cached", "--seed", 2, folder="another")
    distil("v2_aligned", "--alpha", 0, "--teacher", "null", folder="aligned")  # the same cache
    distil("v2_cached", "--includes", "[v2_decoupled.yaml]", folder="labels")
    assert counter.utterances == 24 + 3 * VALID  # of the one without a teacher none


def test_windows_of_the_length_of_a_crop_at_every_speed(
    distil: Distil, teacher: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter(monkeypatch)
    windows = ["--cache_hop", 0.2, "--speeds", "[1.0, 1.1]"]
    # The student hears noise, of which the teacher heard nothing.
    folder = distil("v2_cached_windows", *windows, "--noise_folder", corpus / "valid/id050")
    # Windows of 0.5 and 0.55 s leave 0.5 and 0.45 s of room: three steps of less than 0.2 s.
    cache = teacher / "cache/tones/0.5s_every_0.2s_at_1_1.1"
    assert len(table_of(cache)) == counter.utterances - VALID == 24 * 4 * 2
    (line,) = (folder / "train_log.jsonl").read_text().splitlines()
    assert json.loads(line)["train"]["utterances"] == 48
    # Other speeds, other windows, and whole utterances, lie beside them.
    distil("v2_cached_windows", "--cache_hop", 0.2, folder="another")
    both = ["--cache_hop", 0.3, "--includes", "[v2_decoupled.yaml]"]
    distil("v2_cached_windows", *both, folder="labels")
    assert counter.utterances == 24 * 4 * 3 + 24 * 3 + 24 + 3 * VALID


def test_a_resumed_student_ends_where_an_undisturbed_one_ends(distil: Distil) -> None:
    two_epochs = distil("v2_cached", "--number_of_epochs", 2, folder="whole")
    distil("v2_cached", folder="resumed")
    resumed = distil("v2_cached", "--number_of_epochs", 2, folder="resumed")
    for name, value in weights_of(two_epochs).items():
        assert torch.equal(value, weights_of(resumed)[name]), name


def test_two_processes_make_one_cache(corpus: Path, teacher: Path, tmp_path: Path) -> None:
    arguments = ["hparams/v2_cached.yaml", *STUDENT[1:], "--corpus_dir", corpus]
    arguments += ["--teacher_folder", teacher, "--output_folder", tmp_path / "student"]
    arguments += ["--batch_size", "4", "--max_batch_seconds", "5", "--number_of_epochs", "1"]
    arguments += ["--distributed_backend", "gloo"]
    result = run("train_distill.py", *map(str, arguments), processes=2)
    assert result.returncode == 0, result.stderr
    expected = np.stack([*extracted(teacher).values()])
    assert [path.name for path in (teacher / "cache").iterdir()] == ["tones"]
    assert np.abs(table_of(teacher / "cache/tones/whole") - expected).max() < 1e-5


def test_a_training_that_is_killed_while_the_cache_is_made_goes_on(
    corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    cache = teacher / "cache/tones/0.5s_every_0.3s"
    arguments = ["hparams/v2_cached_windows.yaml", *STUDENT[1:], "--cache_hop", 0.3]
    arguments += ["--number_of_epochs", 1, "--corpus_dir", corpus, "--teacher_folder", teacher]

    def train(folder: str) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
        done = run("train_distill.py", *arguments, "--output_folder", tmp_path / folder)
        assert done.returncode == 0, done.stderr
        assert "embeddings of the teacher" not in done.stderr  # a bar is for a terminal
        return table_of(cache), weights_of(tmp_path / folder)

    table, weights = train("whole")
    shutil.rmtree(cache)
    for file in ("made_from.npz", "embeddings.npy"):
        killed = ["--output_folder", tmp_path / "killed"]
        run_until(1, f"0.3s/{file}", "train_distill.py", *arguments, *killed)
        assert not (cache / "embeddings.npy").exists()
    resumed_table, resumed_weights = train("killed")
    assert np.array_equal(resumed_table, table)
    for name, value in weights.items():
        assert torch.equal(value, resumed_weights[name]), name


def test_another_teacher_in_the_folder_is_noticed(distil: Distil, teacher: Path) -> None:
    distil("v2_cached")
    path = teacher / "save" / "embedding_model.safetensors"
    weights = load_file(path)
    weights["fc.bias"] += 1.0
    save_file(weights, path)
    with refused("other-weights", "cache/tones", "weights"):
        distil("v2_cached", folder="another")
    assert not (teacher.parent / "another" / "train_log.jsonl").exists()


@pytest.mark.parametrize("system", ["v2_cached", "v2_cached_windows"])
@pytest.mark.parametrize(("key", "value"), [("mixup", "0.2"), ("teacher_hears", "corrupted")])
def test_what_clean_speech_cannot_follow_is_refused(
    distil: Distil, tmp_path: Path, system: str, key: str, value: str
) -> None:
    with refused("bad-setting", "CachedTeacher", key):
        distil(system, f"--{key}", value)
    assert not (tmp_path / "student" / "train_log.jsonl").exists()


def speaker_means(teacher: Path) -> torch.Tensor:
    """Of the extracted embeddings, speakers in alphabetical order."""
    means: dict[str, torch.Tensor] = {}
    for name, vector in extracted(teacher).items():
        unit = torch.from_numpy(vector / np.linalg.norm(vector))
        means[name[:5]] = means.get(name[:5], 0) + unit
    return torch.stack([means[name] / means[name].norm() for name in sorted(means)])


def test_a_frozen_aligned_classifier_stays_at_the_means(distil: Distil, teacher: Path) -> None:
    weight = weights_of(distil("v2_aligned_frozen"), "classifier")["weight"]
    assert torch.allclose(weight, speaker_means(teacher), atol=1e-5)


def test_an_aligned_classifier_leaves_the_means_and_resumes(distil: Distil, teacher: Path) -> None:
    whole = distil("v2_aligned", "--number_of_epochs", 2, "--lr", 0.0001, folder="whole")
    weight = weights_of(whole, "classifier")["weight"]
    # Six steps of 0.0001: it began there, and moved.
    assert 1e-5 < (weight - speaker_means(teacher)).abs().max() < 1e-3
    distil("v2_aligned", "--lr", 0.0001, folder="resumed")
    resumed = distil("v2_aligned", "--number_of_epochs", 2, "--lr", 0.0001, folder="resumed")
    assert torch.equal(weight, weights_of(resumed, "classifier")["weight"])


def test_the_teachers_own_classifier(distil: Distil, teacher: Path) -> None:
    folder = distil("v2_aligned_teacher_classifier", "--freeze_classifier", True)
    expected = torch.nn.functional.normalize(weights_of(teacher, "classifier")["weight"])
    assert torch.equal(weights_of(folder, "classifier")["weight"], expected)


def test_speakers_that_the_teacher_does_not_know_are_named(distil: Distil) -> None:
    with refused("bad-setting", "id000@sp1.1"):
        distil("v2_aligned_teacher_classifier", "--speeds", "[1.0, 1.1]")


@pytest.mark.parametrize("system", ["v2_aligned", "v2_aligned_teacher_classifier"])
def test_a_classifier_of_another_size_is_refused(distil: Distil, system: str) -> None:
    with refused("bad-setting", "(6, 16)", "(6, 8)"):
        distil(system, "--lin_neurons", 8)
