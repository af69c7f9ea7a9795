"""V4, trained for real: what it draws and goes by has no memory, and is one thing in any engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity, normalize

from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
from speechbrain_ext.systems.experiment import load_encoder
from speechbrain_ext.training.crops import CropBatch
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.schedules import CosineRate, CyclicRate
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe.tiny import RECIPE, STUDENT, TEACHER, make_corpus, run
from tests.refusals import refused

pytestmark = pytest.mark.slow

V4 = ["hparams/v4.yaml", *STUDENT[1:]]
#: A checkpoint after every batch, of which an epoch has nine.
EVERY_BATCH = ["--ckpt_interval_minutes", "0", "--ckpt_interval_steps", "1"]
QUIET = ["--speeds", "[1.0]", "--front_ends", "null", "--dropout", "0"]
QUIET += ["--gain_probability", "0", "--band_limit_probability", "0", "--codec_probability", "0"]


@pytest.fixture(autouse=True)
def in_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECIPE)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with noise and rooms beside it, and a teacher."""
    folder = make_corpus(tmp_path_factory.mktemp("corpus"))
    for name in ("noise", "rooms"):
        (folder / name).mkdir()
        for index in range(3):
            sound = np.random.default_rng(index).standard_normal(4000) * np.geomspace(1, 0.01, 4000)
            soundfile.write(folder / name / f"{index}.wav", 0.1 * sound, 16000)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(RECIPE)
        given = [*TEACHER, "--corpus_dir", folder, "--output_folder", folder / "teacher"]
        run_training(TeacherBrain, [*map(str, given), "--number_of_epochs", "1"])
    return folder


def arguments(corpus: Path, folder: Path, base: list[str], *more: Any) -> list[str]:
    given = ["--corpus_dir", corpus, "--teacher_folder", corpus / "teacher"]
    return [*base, *map(str, [*given, "--output_folder", folder, *more])]


def train(
    corpus: Path, folder: Path, *more: Any, base: list[str] = V4, brain: Any = DistillBrain
) -> Path:
    run_training(brain, arguments(corpus, folder, base, *more))
    return folder


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


class Killed(BaseException):
    """Ends a training where nobody expects it."""


class Watched(DistillBrain):
    """Notes the rate, the margin and the frames of every step; may be killed before one."""

    killed_at = (0, 0)
    seen: list[tuple[float, float, int]]

    def fit_batch(self, batch: CropBatch) -> torch.Tensor:
        if (self.epoch, self.step) == self.killed_at:
            raise Killed
        return super().fit_batch(batch)

    def embed(self, *given: Any) -> Any:
        forward = super().embed(*given)
        if self.modules.embedding_model.training:
            rate, margin = self.optimizer.param_groups[0]["lr"], self.hparams.compute_cost.margin
            self.seen.append((rate, margin, forward.student.feats.shape[1]))
        return forward


def watched(epoch: int = 0, step: int = 0) -> type[Watched]:
    class Here(Watched):
        killed_at = (epoch, step)
        seen = []

    return Here


def test_killed_and_run_again_it_ends_where_it_would_have(corpus: Path, tmp_path: Path) -> None:
    """Bit for bit, inside an epoch, with all that a step draws."""
    noise = ["--noise_folder", corpus / "noise", "--rir_folder", corpus / "rooms"]
    noise += ["--codec_probability", 0.5, "--average_checkpoints", 1, "--number_of_epochs", 3]
    undisturbed = watched()
    whole = train(corpus, tmp_path / "whole", *noise, brain=undisturbed)
    places = [(epoch, step) for epoch in range(3) for step in range(9)]
    rate = CosineRate(0.001, 3, warmup=0.12, last=0.001 * 0.86**3)
    expected = [rate.at(epoch + (step + 0.5) / 9) for epoch, step in places]
    assert [seen[0] for seen in undisturbed.seen] == pytest.approx(expected)
    with refused("other-settings", whole, "keep --number_of_epochs 3"):
        train(corpus, whole, *noise, "--number_of_epochs", 4)
    margins = [0.0, 0.2, 0.2]  # between 0.39 and 0.81 epochs
    assert [seen[1] for seen in undisturbed.seen] == pytest.approx(np.repeat(margins, 9).tolist())
    assert {seen[2] for seen in undisturbed.seen} == {48, 50}  # snip_edges, and not

    parts = tmp_path / "parts"
    seen = []
    for epoch, step in ((1, 4), (2, 8), (0, 0)):
        brain = watched(epoch, step)
        try:
            train(corpus, parts, *noise, *EVERY_BATCH, brain=brain)
        except Killed:
            pass
        seen += brain.seen
    assert seen == undisturbed.seen
    for name in ("embedding_model", "classifier"):
        one, other = (load_file(f / "save" / f"{name}.safetensors") for f in (whole, parts))
        assert all(torch.equal(one[key], other[key]) for key in one)
    for line, again in zip(log_of(whole), log_of(parts), strict=True):
        assert line["train"]["loss"] == pytest.approx(again["train"]["loss"])
        assert (line["lr"], line["margin"]) == (again["lr"], again["margin"])


def test_two_processes_end_where_one_does(corpus: Path, tmp_path: Path) -> None:
    """Rate, margin and centres are those of one process with the same global batches."""
    ends = []
    for processes, batch in ((1, "8"), (2, "4")):
        folder = tmp_path / str(processes)
        more = [*QUIET, "--batch_size", batch, "--distributed_backend", "gloo"]
        given = arguments(corpus, folder, V4, *more)
        result = run("train_distill.py", *given, processes=processes)
        assert result.returncode == 0, result.stderr
        ends.append(folder)
    one, two = (load_file(folder / "save" / "classifier.safetensors") for folder in ends)
    assert one["weight"].shape == (6, 3, 16)
    assert torch.allclose(one["weight"], two["weight"], atol=1e-3)
    for alone, together in zip(*map(log_of, ends), strict=True):
        assert together["train"]["loss"] == pytest.approx(alone["train"]["loss"], rel=1e-3)
        assert together["lr"] == alone["lr"] and together["margin"] == alone["margin"]


def test_an_export_is_the_fixed_front_end(corpus: Path, tmp_path: Path) -> None:
    """And so is the experiment: neither knows of the variants."""
    folder = train(corpus, tmp_path / "v4", "--number_of_epochs", 1)
    write_model_folder(folder, folder / "export")
    text = (folder / "export" / "hyperparams.yaml").read_text()
    assert "KaldiFbank" in text and "variants" not in text and "hamming" not in text
    encoder = load_encoder(folder)
    wavs = 0.1 * torch.randn(2, 16000)
    assert torch.equal(encoder.compute_features.train()(wavs), KaldiFbank()(wavs))
    # There was no folder of noise, which the log says.
    assert "noise_probability 0.6 does nothing" in (folder / "log.txt").read_text()


def test_a_large_margin_begins_with_the_speakers_of_all_speeds(
    corpus: Path, tmp_path: Path
) -> None:
    """Of whose rows it keeps those of its own."""
    first = train(corpus, tmp_path / "v4", "--number_of_epochs", 1)
    base = ["hparams/v4_large_margin.yaml", *STUDENT[1:]]
    more = ["--start_from", first, "--lr", 1e-12, "--number_of_epochs", 1]
    second = train(corpus, tmp_path / "large", *more, base=base)
    before, after = (load_file(f / "save" / "classifier.safetensors") for f in (first, second))
    assert before["weight"].shape == (18, 3, 16) and after["weight"].shape == (6, 3, 16)
    assert torch.allclose(before["weight"][:6], after["weight"], atol=1e-6)
    (line,) = log_of(second)
    assert line["margin"] == 0.5 and line["train"]["utterances"] == 24
    assert "with its classifier" in (second / "log.txt").read_text()


ALIGNED = """
classifier_start: !new:speechbrain_ext.distill.classifier_start.SpeakerMeans
    encoder: !apply:speechbrain_ext.systems.experiment.load_encoder [!ref <teacher_folder>]
    path: !ref <output_folder>/cache
    speeds: !ref <speeds>
"""
OF_TEACHER = """
classifier_start: !new:speechbrain_ext.distill.classifier_start.TeacherClassifier
    folder: !ref <teacher_folder>
"""


def test_centres_that_start_from_the_teacher(corpus: Path, tmp_path: Path) -> None:
    """From means of all speeds; from a teacher's centres of all speeds."""
    bases = []
    for name, start in (("means", ALIGNED), ("centres", OF_TEACHER)):
        yaml = tmp_path / f"{name}.yaml"
        yaml.write_text(f"!include:{RECIPE}/hparams/v4.yaml\nsystem: {name}\n{start}")
        bases.append([str(yaml), *STUDENT[1:], "--number_of_epochs", "1", "--lr", "1e-12"])
    means, centres = bases
    first = train(corpus, tmp_path / "first", base=means)
    weights = load_file(first / "save" / "classifier.safetensors")["weight"]
    apart = cosine_similarity(weights[:, :1], weights[:, 1:], dim=-1)
    assert weights.shape == (18, 3, 16) and 0.95 < apart.min() and apart.max() < 0.9999

    teacher = train(corpus, tmp_path / "teacher", "--number_of_epochs", 1)
    second = train(corpus, tmp_path / "second", "--teacher_folder", teacher, base=centres)
    taken, given = (load_file(f / "save" / "classifier.safetensors") for f in (second, teacher))
    assert taken["weight"].shape == (18, 3, 16)
    torch.testing.assert_close(taken["weight"], normalize(given["weight"], dim=-1))


def test_a_rate_in_cycles(corpus: Path, tmp_path: Path) -> None:
    """A choice for any system, whatever its rate goes by."""
    brain = watched()
    more = ["--includes", "[shared/cyclic_rate.yaml]", "--cycle_epochs", 2]
    train(corpus, tmp_path, *more, *QUIET, base=V4, brain=brain)
    rate = CyclicRate(1e-8, 0.001, 2)
    expected = [rate.at(epoch + (step + 0.5) / 3) for epoch in range(2) for step in range(3)]
    assert [seen[0] for seen in brain.seen] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--noise_probability", 1.5], ("bad-setting", "noise_probability is 1.5")),
        (["--gain_probability", "often"], ("bad-setting", "gain_probability is 'often'")),
        (["--band_limit_probability", -1], ("bad-setting", "band_limit_probability is -1")),
        (["--codec_probability", 2], ("bad-setting", "codec_probability is 2")),
        (["--sub_centers", 0], ("bad-setting", "sub_centers is 0")),
        (["--top_k", 0], ("bad-setting", "top_k is 0")),
        (["--penalty", 4], ("bad-setting", "penalty=4")),
        (["--margin_start", 3], ("bad-setting", "margin_start 3", "margin_stop")),
        (["--warmup_epochs", 2], ("bad-setting", "warmup_epochs 2", "the 2 epochs")),
        (["--lr_decay", 1.1], ("bad-setting", "last rate", "the highest, 0.001")),
        (["--front_ends", "[1]"], ("bad-setting", "front_ends")),
    ],
)
def test_what_cannot_be_is_told_before_training(
    corpus: Path, tmp_path: Path, more: list[Any], told: tuple[str, ...]
) -> None:
    with refused(*told):
        train(corpus, tmp_path / "exp", *more)
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()


OWN = """
front_ends: !apply:speechbrain_ext.lobes.features.front_end_variants
    front_end: !name:speechbrain_ext.lobes.kaldi_fbank.KaldiFbank
    choices: {choices}
"""
PAIRS = """
alpha: 0.5
compute_features: !new:speechbrain_ext.lobes.features.LogMel
terms:
    layers: !new:speechbrain_ext.distill.layer_terms.HiddenMSE
        pairs: [[block1, lstm1]]
        student_layers: !ref <embedding_model.layers>
        teacher_layers: !ref <teacher.layers>
term_weights: {layers: 0.2}
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (OWN.format(choices="{n_mels: [40]}"), ("bad-setting", "front_ends", "40", "80")),
        (OWN.format(choices="{window: []}"), ("bad-setting", "front_ends", "window")),
        (OWN.format(choices="{window: [round]}"), ("bad-setting", "front_ends", "'round'")),
        (PAIRS, ("bad-setting", "pairs", "frames")),  # which only the variants' differ in
    ],
)
def test_front_ends_that_do_not_fit(
    corpus: Path, tmp_path: Path, text: str, told: tuple[str, ...]
) -> None:
    yaml = tmp_path / "mine.yaml"
    yaml.write_text(f"!include:{RECIPE}/hparams/v4.yaml\nsystem: mine\n{text}")
    with refused(*told):
        train(corpus, tmp_path / "exp", base=[str(yaml), *STUDENT[1:]])
    assert not (tmp_path / "exp" / "train_log.jsonl").exists()
