"""A training that ended anywhere goes on as if nothing had happened, and is one at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open

from speechbrain_ext.files import is_current
from speechbrain_ext.training.checkpoints import WHOLE
from speechbrain_ext.training.crops import CropBatch
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.progress import valid_figures
from speechbrain_ext.training.teacher import TeacherBrain
from tests.processes import environment
from tests.recipe.tiny import RECIPE, STUDENT
from tests.refusals import refused

pytestmark = pytest.mark.slow

Train = Callable[..., None]
#: A checkpoint after every batch, of which an epoch has three.
EVERY_BATCH = ("--ckpt_interval_minutes", 0, "--ckpt_interval_steps", 1)


class Killed(BaseException):
    """Ends a training where nobody expects it."""


def killed_at(epoch: int, step: int) -> type[TeacherBrain]:
    """A Brain that ends before it learns from a batch."""

    class KilledBrain(TeacherBrain):
        def fit_batch(self, batch: CropBatch) -> torch.Tensor:
            if (self.epoch, self.step) == (epoch, step):
                raise Killed
            return super().fit_batch(batch)

    return KilledBrain


def checkpoints(tmp_path: Path, inside: bool | None = None) -> list[Path]:
    """Of ``exp``, the oldest first; of all, those inside an epoch or those at an epoch's end."""
    found = (tmp_path / "exp" / "save").glob("CKPT*")
    marks = {None: "", True: "end-of-epoch: false", False: "end-of-epoch: true"}
    chosen = [path for path in found if marks[inside] in (path / "CKPT.yaml").read_text()]
    return sorted(chosen, key=lambda path: (path / "CKPT.yaml").stat().st_mtime_ns)


def log_of(tmp_path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    lines = (tmp_path / "exp" / "train_log.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def damage(checkpoint: Path, file: str) -> None:
    """As a kill, a full disk or a power cut leaves it."""
    if file == "CKPT.yaml":
        (checkpoint / file).write_text("")
    else:
        (checkpoint / file).unlink()


@pytest.mark.parametrize("file", ["optimizer.ckpt", "CKPT.yaml", "meter.ckpt"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_damaged_checkpoint_leaves_no_trace(
    train: Train, tmp_path: Path, epoch: int, file: str
) -> None:
    """Every crop of every epoch is learnt from, and the damaged one is out of all that follows."""
    with pytest.raises(Killed):
        train(killed_at(epoch, 3), *EVERY_BATCH)
    (inside,) = checkpoints(tmp_path, inside=True)
    damage(inside, file)
    train(TeacherBrain, *EVERY_BATCH)
    assert [line["train"]["utterances"] for line in log_of(tmp_path)] == [24, 24]
    # A new one may have its name, which is that of a second.
    assert inside.with_name(f"damaged_{inside.name}").is_dir()
    assert all(is_current(checkpoint, WHOLE) for checkpoint in checkpoints(tmp_path))
    said = (tmp_path / "exp" / "log.txt").read_text()
    assert f"{inside} is damaged" in said
    assert ("from the beginning" in said) == (epoch == 1)


def test_no_damaged_checkpoint_is_chosen(train: Train, tmp_path: Path) -> None:
    arguments = (TeacherBrain, "--average_checkpoints", 4, "--number_of_epochs")
    train(*arguments, 2)
    for checkpoint, file in zip(
        checkpoints(tmp_path), ("embedding_model.ckpt", "meter.ckpt"), strict=True
    ):
        damage(checkpoint, file)
    train(*arguments, 3)
    with safe_open(tmp_path / "exp/save/embedding_model.safetensors", "pt") as weights:
        assert sorted(json.loads(weights.metadata()["epochs"])) == [1, 2, 3]


def test_the_mean_is_that_of_the_best(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where fewer are to be kept than it needs: the last epochs are no stand-ins."""
    eers = iter([20.0, 1.0, 3.0, 2.0, 30.0, 31.0])
    monkeypatch.setattr(
        "speechbrain_ext.training.brain.valid_figures",
        lambda *given: {**(valid_figures(*given) or {}), "eer": next(eers)},
    )
    kept = ("--keep_checkpoints", 1, "--average_checkpoints", 3)
    train(TeacherBrain, *kept, "--number_of_epochs", 6)
    with safe_open(tmp_path / "exp/save/embedding_model.safetensors", "pt") as weights:
        assert json.loads(weights.metadata()["epochs"]) == [2, 4, 3]


def test_an_epoch_is_logged_before_it_is_saved_and_once(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Any, *args: Any, **settings: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("speechbrain.utils.checkpoints.Checkpointer.save_checkpoint", killed)
        train()
    assert [line["epoch"] for line in log_of(tmp_path)] == [1]
    train()
    assert [line["epoch"] for line in log_of(tmp_path)] == [1, 2]
    plain = (tmp_path / "exp" / "train_log.txt").read_text().splitlines()
    assert [line.partition(",")[0] for line in plain] == ["epoch: 1", "epoch: 2"]


def test_what_is_no_line_of_an_epoch_does_not_end_a_training(train: Train, tmp_path: Path) -> None:
    """An editor's blank line, or what a power cut has left of one."""
    train(TeacherBrain, "--number_of_epochs", 1)
    for name in ("train_log.jsonl", "train_log.txt"):
        with open(tmp_path / "exp" / name, "a") as file:
            file.write("\n{\n")
    train()
    assert [line["epoch"] for line in log_of(tmp_path)] == [1, 2]


def test_one_training_at_a_time(train: Train, tmp_path: Path) -> None:
    hold = "from speechbrain_ext.files import claimed\n"
    hold += f"with claimed({str(tmp_path / 'exp' / 'save')!r}, ''): print(flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        cwd=RECIPE,
    )
    assert other.stdout is not None
    other.stdout.readline()
    with refused("busy-folder", tmp_path / "exp"):
        train()
    assert not (tmp_path / "exp" / "hyperparams.yaml").exists()
    other.kill()  # the lock ends with its process
    other.communicate()
    train(TeacherBrain, "--number_of_epochs", 1)


@pytest.mark.parametrize("step", [1, 2])
def test_a_loss_that_is_not_finite_is_left_out_and_counted(
    train: Train, tmp_path: Path, step: int
) -> None:
    class Diverging(TeacherBrain):
        def classification_loss(self, *args: Any) -> torch.Tensor:
            loss = super().classification_loss(*args)
            return loss * float("nan") if (self.epoch, self.step) == (1, step) else loss

    train(Diverging)
    first, last = (line["train"] for line in log_of(tmp_path))
    assert (first["nonfinite"], last["nonfinite"]) == (1, 0)
    assert (first["utterances"], last["utterances"]) == (16, 24)
    assert first["loss"] == pytest.approx(first["classification"]) and first["accuracy"] <= 1
    assert first["share_classification"] == 1


def test_an_epoch_without_a_finite_loss_is_refused(train: Train, tmp_path: Path) -> None:
    class Diverging(TeacherBrain):
        def classification_loss(self, *args: Any) -> torch.Tensor:
            return super().classification_loss(*args) * float("nan")

    with refused("diverged", "epoch 1"):
        train(Diverging)
    assert not checkpoints(tmp_path)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_crop_left_alone_is_counted_and_not_learnt_from(
    train: Train, tmp_path: Path, accumulated: int
) -> None:
    """Batch normalisation has nothing to go by."""
    arguments = ("--batch_size", 23, "--drop_last", False, "--max_unreadable", 0)
    train(TeacherBrain, *arguments, "--grad_accumulation_factor", accumulated)
    for line in log_of(tmp_path):
        figures = line["train"]
        assert (figures["utterances"], figures["skipped"], figures["unreadable"]) == (23, 1, 0)
    optimizer = torch.load(checkpoints(tmp_path)[-1] / "optimizer.ckpt")
    # Gradients that wait for the step which is due are used, and no step is made without any.
    assert {int(state["step"]) for state in optimizer["state"].values()} == {2}


@pytest.mark.parametrize("unreadable", [1, 2])
def test_a_batch_with_one_readable_crop_or_none(
    train: Train, corpus: Path, tmp_path: Path, unreadable: int
) -> None:
    for utterance in ("s0/0", "s1/1")[:unreadable]:
        (corpus / "train" / "id002" / f"{utterance}.wav").write_bytes(b"RIFF")
    train(TeacherBrain, "--batch_size", 2, "--max_unreadable", 0.5, "--number_of_epochs", 1)
    (line,) = log_of(tmp_path)
    figures = line["train"]
    assert figures["utterances"] % 2 == 0 and figures["utterances"] + figures["skipped"] == 24
    assert unreadable < figures["skipped"] <= 2 * unreadable


def test_masking_of_waveforms_is_refused_before_training(train: Train, tmp_path: Path) -> None:
    base = ["hparams/v2_sincnet.yaml", *STUDENT[1:], "--teacher", "null", "--alpha", "0"]
    with refused("bad-setting", "spec_augment", "waveforms"):
        train(DistillBrain, "--spec_augment", True, base=base)
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()


def test_every_kind_of_corruption_is_tried_before_training(train: Train, tmp_path: Path) -> None:
    for kind in ("noise", "music", "speech"):
        (tmp_path / "musan" / kind).mkdir(parents=True)
        (tmp_path / "musan" / kind / "a.wav").write_bytes(b"RIFF")
        with refused("unusable-audio", f"{kind}/a.wav"):
            train(TeacherBrain, "--noise_folder", tmp_path / "musan")
        soundfile.write(tmp_path / "musan" / kind / "a.wav", np.ones(16000), 16000)
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()


def test_killed_at_random_moments_it_ends_where_an_undisturbed_training_ends() -> None:
    """Weights, labels and figures, bit for bit; ``kills.py`` says which moments there are."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.recipe.kills", "--seed", "3", "--count", "4"],
        cwd=RECIPE,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert sum(json.loads(result.stdout)["kills"].values()) == 4
