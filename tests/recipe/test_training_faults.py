"""What goes wrong in a training is said in a sentence, and nothing is lost."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.errors import friendly_exit
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from speechbrain_ext.workers import in_threads
from tests.recipe.tiny import STUDENT
from tests.refusals import refused

pytestmark = pytest.mark.slow

Train = Callable[..., None]


def checkpoints(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "exp" / "save").glob("CKPT*"), key=lambda path: path.stat().st_mtime)


def epochs(tmp_path: Path) -> list[dict]:
    return [
        json.loads(line) for line in (tmp_path / "exp" / "train_log.jsonl").read_text().splitlines()
    ]


def test_a_full_disk_leaves_the_checkpoint_before(train: Train, tmp_path: Path) -> None:
    class Filling(TeacherBrain):
        def _checkpoint(self, meta: dict[str, Any], end_of_epoch: bool) -> None:
            if meta["epoch"] == 2:  # no file may grow beyond 4 kB any more
                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
            super()._checkpoint(meta, end_of_epoch)

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with refused("unwritable", tmp_path / "exp"):
            train(Filling)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert len(checkpoints(tmp_path)) == 1
    train()
    assert [line["epoch"] for line in epochs(tmp_path)] == [1, 2]


def test_unreadable_audio_is_skipped_and_counted(
    train: Train, corpus: Path, tmp_path: Path
) -> None:
    (corpus / "train" / "id002" / "s0" / "0.wav").write_bytes(b"RIFF")
    train(TeacherBrain, "--max_unreadable", 0.1)
    assert [line["train"]["skipped"] for line in epochs(tmp_path)] == [1, 1]
    assert [line["train"]["utterances"] for line in epochs(tmp_path)] == [23, 23]
    assert "id002/s0/0" in (tmp_path / "exp" / "log.txt").read_text()


def test_too_much_unreadable_audio_stops(train: Train, corpus: Path) -> None:
    """With the last file and what is wrong with it, which decoding alone may tell."""
    path = corpus / "train" / "id002" / "s0" / "0.wav"
    samples, rate = soundfile.read(path, dtype="float32")
    samples[-1] = np.nan
    soundfile.write(path, samples, rate, subtype="FLOAT")
    why = f"{(len(samples) - 1) / rate:.3f} s is nan"
    with refused("unusable-audio", "1 of 24 ", "epoch 1 ", path, why, "max_unreadable", "stage 1"):
        train(TeacherBrain, "--max_unreadable", 0.0, "--crop_seconds", 60)


def test_a_folder_that_is_not_mounted_is_named(train: Train, corpus: Path, tmp_path: Path) -> None:
    folder, away = corpus / "train" / "id002", tmp_path / "away"
    folder.rename(away)
    first = sorted(path.relative_to(away) for path in away.rglob("*.wav"))[0]
    facts = ("train.csv", "1 of 6", "id002", folder / first, "No such file or directory")
    with refused("unusable-audio", *facts):
        train(TeacherBrain)


def test_a_corpus_that_is_not_mounted_is_told_without_delay(
    train: Train, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads are started once and not for each of a million files that are gone."""
    started: list[int] = []

    def counted(*given: Any) -> Any:
        started.append(1)
        return in_threads(*given)

    monkeypatch.setattr("speechbrain_ext.training.preflight.in_threads", counted)
    (corpus / "train").rename(corpus / "away")
    with refused("unusable-audio", "6 of 6"):
        train()
    assert len(started) == 1


def silence(path: Path) -> None:
    soundfile.write(path, np.zeros(16000), 16000)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (Path.unlink, "No such file or directory"),
        (half, " bytes before its "),
        (silence, "all samples are the same"),
    ],
)
def test_validation_is_heard_before_training(
    train: Train, corpus: Path, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    path = sorted((corpus / "valid").rglob("*.wav"))[-1]
    damage(path)
    with refused("unusable-audio", "valid.csv", "1 of ", path, reason):
        train(TeacherBrain)
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()


def test_trials_of_other_utterances_are_refused_before_training(
    train: Train, corpus: Path, tmp_path: Path
) -> None:
    path = corpus / "manifests" / "trials" / "valid.txt"
    path.write_text(path.read_text() + "1 id050/s0/0 id999/s0/0\n")
    with refused("unknown-utterance", "valid.txt", "1 ", "valid.csv", "id999/s0/0"):
        train(TeacherBrain)
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()


def test_audio_of_another_kind_is_heard_alike(train: Train, corpus: Path, tmp_path: Path) -> None:
    """In training and validation, as embed.py hears it."""
    for path in (corpus / "train/id002/s0/0.wav", next((corpus / "valid").rglob("*.wav"))):
        samples, rate = soundfile.read(path)
        soundfile.write(path, np.stack([samples, samples], 1).repeat(3, axis=0), 3 * rate)
    train(TeacherBrain, "--number_of_epochs", 1)
    assert epochs(tmp_path)[0]["train"]["skipped"] == 0


def test_an_epoch_without_a_step_is_refused(train: Train, tmp_path: Path) -> None:
    with refused("bad-setting", "grad_accumulation_factor 7"):
        train(TeacherBrain, "--grad_accumulation_factor", 7)
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()


def test_a_loss_that_is_not_finite_names_its_utterances(train: Train, tmp_path: Path) -> None:
    class Diverging(TeacherBrain):
        def classification_loss(self, *args: Any) -> torch.Tensor:
            return super().classification_loss(*args) * float("nan")

    with refused("diverged", " 1 batches", "epoch 1", "id00"):
        train(Diverging, "--nonfinite_patience", 1)
    assert not checkpoints(tmp_path)


def test_mixed_precision_trains(train: Train, tmp_path: Path) -> None:
    train(TeacherBrain, "--precision", "bf16", "--reconstruction_weight", 0.1)
    assert "precision: bf16" in (tmp_path / "exp" / "hyperparams.yaml").read_text()
    first, last = epochs(tmp_path)
    assert last["train"]["loss"] < first["train"]["loss"]


def test_a_folder_made_with_other_settings_is_refused(train: Train, tmp_path: Path) -> None:
    train(TeacherBrain, "--number_of_epochs", 1)
    kept = (tmp_path / "exp" / "hyperparams.yaml").read_text()
    with refused("other-settings", "lr: 0.0005", "0.01"):
        train(TeacherBrain, "--lr", 0.01)
    with refused("other-settings"):
        train(TeacherBrain, "--embedding_model", "{lstm_layers: 1}")
    # A key does not pass because one that is free changes by the same values.
    with refused("other-settings", "(crops_per_utterance: 1", "2"):
        train(TeacherBrain, "--number_of_epochs", 2, "--crops_per_utterance", 2)
    # Nor do options of SpeechBrain's that no YAML has a key for.
    for option in ("--bfloat16_mix_prec", "--remove_vector_weight_decay"):
        with refused("other-settings", f"({option[2:]}: None", "True"):
            train(TeacherBrain, "--number_of_epochs", 2, option)
    assert (tmp_path / "exp" / "hyperparams.yaml").read_text() == kept
    train(TeacherBrain, "--number_of_epochs", 2)  # longer is no other setting
    assert len(epochs(tmp_path)) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--alhpa", "0.5"], ("unknown-key", "hparams/v2.yaml", "'alhpa'", "--alpha")),
        (["--alpha", "-0.5"], ("bad-setting", "alpha", "[0, 1]", "-0.5")),
        (["--alpha=1.5"], ("bad-setting", "alpha", "[0, 1]", "1.5")),
        (["--groups", "5"], ("bad-setting", "groups=5", "16", "48")),
        (["--crop_seconds", "0"], ("bad-setting", "crop_seconds is 0", "above 0")),
        (["--crop_seconds", "0.001"], ("bad-setting", "crop_seconds 0.001", "(")),
        (["--keep_checkpoints", "0"], ("bad-setting", "keep_checkpoints is 0", "1 or more")),
        (["--batch_size", "1"], ("bad-setting", "batch_size 1 ", "2 or more")),
        (["--seed", "-1"], ("bad-setting", "seed is -1", "0 or more")),
        (["--lr", "fast"], ("bad-setting", "lr is 'fast'", "above 0")),
        (["--spec_augment", "maybe"], ("bad-setting", "spec_augment is 'maybe'", "True or False")),
        (["--precision", "fp16"], ("bad-setting", "fp16", "CPU")),
        (["--eval_precision", "fp16"], ("bad-setting", "fp16", "CPU")),
        (["--device", "gpu"], ("bad-device", "--device gpu")),
        (["--distillation", "cosine"], ("bad-setting", "distillation is 'cosine'")),
        (["--batch_size", "64"], ("bad-setting", "24 crops", " 64 ")),
    ],
)
def test_a_bad_override_is_one_sentence(
    train: Train, tmp_path: Path, arguments: list[str], told: tuple[str, ...]
) -> None:
    base = [*STUDENT, "--teacher_folder", str(tmp_path / "teacher")]
    teacher = ["--output_folder", tmp_path / "teacher", "--number_of_epochs", 1]
    train(TeacherBrain, *teacher)
    with refused(*told):
        train(DistillBrain, *arguments, base=base)


def test_stages_out_of_order_say_which_is_missing(
    train: Train, corpus: Path, tmp_path: Path
) -> None:
    base = [*STUDENT, "--teacher_folder", str(tmp_path / "nowhere")]
    with refused("missing-file", tmp_path / "nowhere"):
        train(DistillBrain, base=base)
    shutil.rmtree(corpus / "manifests")
    with refused("earlier-stage", "train.csv", "stage 1"):
        train()


def test_no_speakers(train: Train, corpus: Path) -> None:
    manifest = corpus / "manifests" / "train.csv"
    manifest.write_text(manifest.read_text().splitlines()[0] + "\n")
    with refused("empty-list", "train.csv"):
        train()


def test_the_command_prints_the_sentence_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, friendly_exit():
        run_training(TeacherBrain, ["hparams/nothing.yaml"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "error: hparams/nothing.yaml does not exist: give a YAML file of hparams/\n"
    )


def test_the_sample_rate_is_no_setting(train: Train) -> None:
    """Models hear 16 kHz; a key that only some places read would train on something else."""
    with refused("unknown-key", "sample_rate"):
        train(TeacherBrain, "--sample_rate", 8000)
