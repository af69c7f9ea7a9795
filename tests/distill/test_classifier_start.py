"""Where a classifier starts that is aligned with the teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from speechbrain.dataio.encoder import CategoricalEncoder
from speechbrain.lobes.models.ECAPA_TDNN import Classifier
from torch import nn

from speechbrain_ext.distill import classifier_start as aligned
from speechbrain_ext.distill.classifier_start import SpeakerMeans, TeacherClassifier
from speechbrain_ext.systems.experiment import save_weights
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


def test_a_speaker_without_utterances_is_named(tmp_path: Path) -> None:
    means = SpeakerMeans(nn.Identity(), tmp_path / "cache.npz")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no utterance of ann@sp0\.9, .*set speeds to \[1\.0\]"):
        means.weights(write_manifest(tmp_path), ["ann", "bob", "ann@sp0.9"])
