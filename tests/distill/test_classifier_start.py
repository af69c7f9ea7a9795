"""Where a classifier starts that is aligned with the teacher."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from torch import nn
from torch.nn import functional as F

from speechbrain_ext.distill import classifier_start as aligned
from speechbrain_ext.distill.classifier_start import SpeakerMeans, TeacherClassifier
from speechbrain_ext.nnet.sub_centers import SubCenterClassifier
from speechbrain_ext.systems.experiment import save_weights
from speechbrain_ext.training.first_weights import start_classifier
from tests.refusals import refused

UTTERANCES = {"a/1": "ann", "b/1": "bob", "a/2": "ann"}


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    classifier = Classifier(2, out_neurons=3)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, 2.0], [-5.0, 0.0]]))
    save_weights(tmp_path, classifier, {}, "classifier")
    labels = CategoricalEncoder()
    labels.update_from_iterable(["cy", "ann", "bob"])
    labels.save(tmp_path / "save" / "label_encoder.txt")
    return tmp_path


def test_rows_of_the_teachers_classifier_follow_the_students_labels(teacher: Path) -> None:
    weights = TeacherClassifier(teacher).weights("train.csv", ["ann", "bob", "cy"])
    assert torch.allclose(weights, torch.tensor([[0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]]))


def test_a_teacher_with_several_centres_gives_all_of_them(teacher: Path) -> None:
    classifier = SubCenterClassifier(2, out_neurons=3, sub_centers=2)
    save_weights(teacher, classifier, {}, "classifier")
    weights = TeacherClassifier(teacher).weights("train.csv", ["ann", "bob"])
    assert torch.allclose(weights, F.normalize(classifier.weight[1:], dim=-1))


@pytest.mark.parametrize(("rows", "centers"), [(1, 1), (1, 3), (3, 3)])
def test_a_classifier_starts_there(rows: int, centers: int) -> None:
    """A row for each speaker is where all its centres begin; as many rows are all of them."""
    given = F.normalize(torch.randn(2, rows, 64), dim=-1)
    given = given[:, 0] if rows == 1 else given
    speakers = CategoricalEncoder()
    speakers.update_from_iterable(["ann", "bob"])
    classifier = Classifier(64, out_neurons=2)
    if centers > 1:
        classifier = SubCenterClassifier(64, 2, centers)
    hparams = SimpleNamespace(
        classifier=classifier,
        train_csv="train.csv",
        classifier_start=SimpleNamespace(weights=lambda *_: given),
    )
    start_classifier(hparams, speakers, "cpu")
    if rows == centers:
        assert torch.equal(classifier.weight, given)
    else:
        torch.testing.assert_close(classifier.weight[:, 0], given)
        assert F.cosine_similarity(classifier.weight, given.unsqueeze(1), dim=-1).min() > 0.98
    hparams.classifier_start = SimpleNamespace(weights=lambda *_: torch.ones(2, 2, 64))
    with pytest.raises(ValueError, match=r"\(2, 2, 64\).*lin_neurons.*sub_centers"):
        start_classifier(hparams, speakers, "cpu")


def test_a_speaker_that_is_new_to_the_teacher_is_named(teacher: Path) -> None:
    with pytest.raises(ValueError, match=r"not trained on ann@sp1\.1 \(2 of 3 speakers"):
        TeacherClassifier(teacher).weights("train.csv", ["ann", "ann@sp1.1", "bob@sp1.1"])


@pytest.mark.parametrize("missing", ["classifier.safetensors", "label_encoder.txt"])
def test_a_folder_without_a_trained_classifier_is_named(teacher: Path, missing: str) -> None:
    (teacher / "save" / missing).unlink()
    with refused("damaged-file", teacher, "SpeakerMeans"):
        TeacherClassifier(teacher).weights("train.csv", ["ann"])


def test_a_damaged_classifier_is_named(teacher: Path) -> None:
    (teacher / "save" / "classifier.safetensors").write_bytes(b"half")
    with refused("damaged-file", "classifier.safetensors"):
        TeacherClassifier(teacher).weights("train.csv", ["ann"])


def test_a_classifier_of_other_speakers_is_named(teacher: Path) -> None:
    save_weights(teacher, Classifier(2, out_neurons=2), {}, "classifier")
    with refused("damaged-file", "label_encoder.txt", "2 rows", "3 speakers"):
        TeacherClassifier(teacher).weights("train.csv", ["ann"])


def write_manifest(folder: Path) -> Path:
    rows = [f"{name},1.0,{name}.wav,0,16000,{who}" for name, who in UTTERANCES.items()]
    header = "ID,duration,wav,start,stop,spk_id"
    (folder / "train.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "train.csv"


def test_means_of_unit_vectors_have_unit_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: (1, 0) and (0, 1) whatever their lengths, so the mean points between them."""
    vectors = np.array([[8, 0], [-3, -4], [0, 0.5]], np.float32)
    monkeypatch.setattr(aligned, "cached_embeddings", lambda *_: vectors)
    manifest = write_manifest(tmp_path)
    means = SpeakerMeans(nn.Identity(), "cache.npz")  # type: ignore[arg-type]
    weights = means.weights(manifest, ["bob", "ann"])
    half = 0.5**0.5
    assert torch.allclose(weights, torch.tensor([[-0.6, -0.8], [half, half]]))


def test_each_speed_makes_speakers_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.array([[1, 0], [0, 1], [0, 1], [-1, 0], [0, -1], [0, -1]], np.float32)
    monkeypatch.setattr(aligned, "cached_embeddings", lambda *_: vectors)
    means = SpeakerMeans(nn.Identity(), "cache", speeds=[0.9, 1.0])  # type: ignore[arg-type]
    names = ["ann", "bob@sp0.9", "ann@sp0.9", "bob"]
    weights = means.weights(write_manifest(tmp_path), names)
    half = 0.5**0.5
    expected = torch.tensor([[half, half], [0.0, -1.0], [-half, -half], [0.0, 1.0]])
    assert torch.allclose(weights, expected)


def test_a_speaker_without_utterances_is_named(tmp_path: Path) -> None:
    means = SpeakerMeans(nn.Identity(), tmp_path / "cache")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no utterance of ann@sp0\.9 at the speeds \[1\.0\]"):
        means.weights(write_manifest(tmp_path), ["ann", "bob", "ann@sp0.9"])
