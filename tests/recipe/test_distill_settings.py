"""What a YAML and a command line may ask of a training, and what is refused before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from speechbrain_ext.systems.command_line import check_keys, read_command_line
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.run import run_training
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe.tiny import RECIPE, STUDENT, TEACHER, make_corpus
from tests.refusals import refused

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def in_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECIPE)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def teacher(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "teacher"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(RECIPE)
        arguments = [*TEACHER, "--corpus_dir", corpus, "--output_folder", folder]
        run_training(TeacherBrain, [*map(str, arguments), "--number_of_epochs", "1"])
    return folder


@pytest.fixture
def distil(corpus: Path, teacher: Path, tmp_path: Path) -> Any:
    """Train the tiny student of a YAML text that builds on v2; give its folder."""

    def train(text: str = "", *arguments: Any, folder: str = "student") -> Path:
        yaml = tmp_path / "mine.yaml"
        yaml.write_text(f"!include:{RECIPE}/hparams/v2.yaml\nsystem: mine\n{text}")
        options = [*STUDENT[1:], "--corpus_dir", corpus, "--teacher_folder", teacher]
        options += ["--number_of_epochs", "1", "--output_folder", tmp_path / folder, *arguments]
        run_training(DistillBrain, [str(yaml), *map(str, options)])
        return tmp_path / folder

    return train


LABEL = f"includes: [{RECIPE}/hparams/v2_label.yaml]"
EVERY_TERM = f"""
includes:
    - {RECIPE}/hparams/v2_decoupled.yaml
    - {RECIPE}/hparams/v2_contrast_relational.yaml
    - {RECIPE}/hparams/v2_anchors.yaml
teacher_classifier: !new:speechbrain_ext.distill.classifier_start.TeacherClassifier
    folder: !ref <teacher_folder>
classifier_start: !ref <teacher_classifier>
terms:
    label: !ref <label_distillation>
    contrast: !ref <contrast>
    anchors: !ref <anchor_distillation>
term_weights: {{label: 0.2, contrast: 0.1, anchors: 0.1}}
"""
WRONG_LOGGER = """
train_logger: !new:speechbrain_ext.training.progress.TrainLoggers
    - - !name:speechbrain_ext.training.progress.TextLogger
          no_such: x
"""
FORGETFUL = """
checkpointer: !new:speechbrain.utils.checkpoints.Checkpointer
    checkpoints_dir: !ref <save_folder>
    recoverables:
        embedding_model: !ref <embedding_model>
"""


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train_log.jsonl").read_text().splitlines()]


def test_alpha_of_each_epoch_is_logged(distil: Any) -> None:
    rule = """
alpha: !new:speechbrain_ext.distill.alpha.Curriculum
    alphas: [0.25, 0.75]
    starts: [1, 2]
"""
    lines = log_of(distil(rule, "--number_of_epochs", 2))
    assert [line["alpha"] for line in lines] == [pytest.approx(0.25), pytest.approx(0.75)]
    for line in lines:
        train, alpha = line["train"], line["alpha"]
        expected = (1 - alpha) * train["classification"] + alpha * train["distillation"]
        assert train["loss"] == pytest.approx(expected, rel=1e-5)


def test_balanced_alpha_is_logged_and_learns_nothing_itself(distil: Any) -> None:
    folder = distil("alpha: !new:speechbrain_ext.distill.alpha.GradientBalance")
    (line,) = log_of(folder)
    assert 0.05 <= line["alpha"] <= 0.95
    checkpoint = next((folder / "save").glob("CKPT*"))
    state = torch.load(checkpoint / "objective.ckpt", weights_only=True)
    assert (state["alpha.average"] > 0).all() and list(state) == ["alpha.average"]


@pytest.mark.parametrize("rule", ["auto", "logarithmic"])
def test_alpha_by_rule_from_the_command_line(distil: Any, rule: str) -> None:
    (line,) = log_of(distil("", "--alpha", rule))
    assert line["alpha"] == pytest.approx(0.9)  # the tiny student has 0.36 of its teacher's size


def test_without_a_teacher(distil: Any) -> None:
    (line,) = log_of(distil("alpha: 0.0\nteacher: null"))
    train = line["train"]
    assert train["loss"] == pytest.approx(train["classification"]) and train["share"] == 0
    assert "distillation" not in train and line["alpha"] == 0


def test_a_projection_joins_sizes_and_is_not_exported(distil: Any, teacher: Path) -> None:
    text = """
lin_neurons: 24
projection: !new:torch.nn.Linear
    in_features: !ref <lin_neurons>
    out_features: 16
"""
    folder = distil(text, "--lin_neurons", 24)
    weights = load_file(folder / "save" / "embedding_model.safetensors")
    assert weights["fc.weight"].shape[0] == 24
    assert not [name for name in weights if "projection" in name]
    checkpoint = next((folder / "save").glob("CKPT*"))
    state = torch.load(checkpoint / "objective.ckpt", weights_only=True)
    assert state["projection.weight"].shape == (16, 24)


def test_speeds_make_speakers_and_mixup_mixes_labels(distil: Any, teacher: Path) -> None:
    folder = distil("", "--speeds", "[1.0, 0.9]", "--mixup", 0.5, "--spec_augment", True)
    weights = load_file(folder / "save" / "classifier.safetensors")
    assert weights["weight"].shape == (12, 16)
    (line,) = log_of(folder)
    assert line["train"]["utterances"] == 48


@pytest.mark.parametrize(
    ("text", "arguments", "told"),
    [
        ("", ["--alpha", 1.5], ("bad-setting", "alpha", "[0, 1]", "1.5")),
        ("", ["--alpha", "automatic"], ("bad-setting", "alpha", "'automatic'")),
        ("teacher: null", [], ("no-teacher", "alpha")),
        ("", ["--lin_neurons", 24], ("bad-setting", "24", "16", "projection")),
        (
            "",
            ["--teacher_hears", "noise"],
            ("bad-setting", "teacher_hears", "clean", "corrupted", "'noise'"),
        ),
        ("term_weights: {hints: 0.1}", [], ("bad-setting", "term")),
        ("", ["--speeds", "[0.9]"], ("bad-setting", "speeds")),
        (
            "",
            ["--noise_folder", "/no/such/folder"],
            ("bad-setting", "noise_folder", "/no/such/folder"),
        ),
        ("channel: 3", [], ("unknown-key", "'channel'", "3", "channels")),
        ("", ["--dropuot", 0.2], ("unknown-key", "'dropuot'", "--dropout")),
        ("distillation: !new:no.such.Loss", [], ("bad-setting", "no.such")),
        (f"{LABEL}\nalpha: 0.0\nteacher: null", [], ("no-teacher", "terms")),
        ("", ["--subsampling", 0], ("bad-setting", "subsampling", "0")),
        ("pooling: null", [], ("bad-setting", "pooling", "!name:")),
        ("aggregation: 3", [], ("bad-setting", "aggregation", "3", "!name:")),
        (
            f"includes: [{RECIPE}/hparams/v2_parallel_kernels.yaml]",
            ["--kernel_sizes", "[3, 4]"],
            ("bad-setting", "kernel_sizes", "[3, 4]", "odd"),
        ),
        (
            f"includes: [{RECIPE}/hparams/v2_attention_transfer.yaml]",
            ["--subsampling", 2, "--num_blocks", 6],
            ("bad-setting", "block2", "26", "51", "subsampling"),
        ),
        (
            f"includes: [{RECIPE}/hparams/v2_reconstruction.yaml]",
            ["--subsampling", 2],
            ("bad-setting", "51", "block2", "26", "subsampling"),
        ),
    ],
)
def test_refused_in_a_sentence_before_anything_is_trained(
    distil: Any, tmp_path: Path, text: str, arguments: list[Any], told: tuple[str, ...]
) -> None:
    with refused(*told):
        distil(text, *arguments)
    assert not (tmp_path / "student" / "train_log.jsonl").exists()


TERM = """
import torch
class Term(torch.nn.Module):
    uses_teacher = True
    def forward(self, student, teacher):
        return {value}
class Deaf(torch.nn.Module):
    def forward(self, student, teacher):
        return student.feats.mean()
"""


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("Term", "student.hidden['block9'].mean()", ("bad-setting", "'block9'", "block1")),
        ("Term", "teacher.hidden['lstm9'].mean()", ("bad-setting", "'lstm9'", "lstm1, lstm2")),
        ("Term", "student.embedding.mean(1)", ("bad-setting", " mine ")),
        ("Term", "student.embedding.mean() / 0", ("bad-setting", " mine ")),
        ("Deaf", "0", ("bad-setting", "mine", "Deaf", "uses_teacher")),
    ],
)
def test_a_term_of_ones_own_that_cannot_be_used(
    distil: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    told: tuple[str, ...],
) -> None:
    module = f"own_term_{abs(hash((name, value)))}"
    (tmp_path / f"{module}.py").write_text(TERM.format(value=value))
    monkeypatch.syspath_prepend(str(tmp_path))
    text = f"alpha: 0.5\nterms:\n    mine: !new:{module}.{name}\nterm_weights: {{mine: 0.2}}\n"
    with refused(*told):
        distil(text)
    # Nothing was trained, so what is mended may go into the same folder.
    distil()


def test_another_class_without_arguments_is_another_setting(distil: Any) -> None:
    distil()
    text = "distillation: !new:speechbrain_ext.distill.losses.RelationalDistillation"
    with refused("other-settings", "distillation", "Cosine", "Relational"):
        distil(text, "--number_of_epochs", 2)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("modules: {classifier: !ref <classifier>}", ("modules is a dict",)),
        ("lr_annealing: [1]", ("lr_annealing is [1]",)),
        ("opt_class: !name:torch.optim.Adam {a: 1}", ("opt_class", "torch.optim.Adam", "'a'")),
        ("mean_var_norm: {}", ("mean_var_norm is {}", "!new:")),
        ("train_logger: 1", ("train_logger is 1", "TrainLogger", "!new:")),
        ("train_csv: null", ("train_csv is None",)),
        ("max_grad_norm: 5.0 '", ('max_grad_norm is "5.0 \'"', "above 0")),
        ("num_speakers: 1", ("num_speakers is 1",)),
        ("classifier_start: true", ("classifier_start is True", "null")),
        ("start_from: 2024", ("start_from is 2024", "null")),
        ("min_distillation_share: null", ("min_distillation_share is None",)),
        (
            FORGETFUL,
            ("checkpointer is a Checkpointer", "embedding_model"),
        ),
        (WRONG_LOGGER, ("TextLogger", "'no_such'")),
    ],
)
def test_what_the_brain_cannot_use_is_told(text: str, facts: tuple[str, ...], distil: Any) -> None:
    with refused("bad-setting", *facts):
        distil(text)


def test_what_the_objective_learns_is_kept_without_being_asked(distil: Any) -> None:
    text = FORGETFUL.rstrip() + "\n        classifier: !ref <classifier>\n"
    text += "        counter: !ref <epoch_counter>\n"
    folder = distil(text + "alpha: !new:speechbrain_ext.distill.alpha.GradientBalance")
    assert list((folder / "save").glob("CKPT*/objective.ckpt"))
    folder = distil(text, folder="other")
    assert not list((folder / "save").glob("CKPT*/objective.ckpt"))


def test_a_script_says_which_systems_it_trains() -> None:
    teacher, student = (
        read_command_line([f"{RECIPE}/hparams/{name}.yaml"]) for name in ("teacher", "v2")
    )
    with refused("wrong-system", "teacher.yaml", "train_teacher.py"):
        check_keys(teacher, DistillBrain.keys)
    with refused("wrong-system", "v2.yaml", "train_distill.py"):
        check_keys(student, TeacherBrain.keys)


def test_stopped_and_run_again_with_every_switch_on(distil: Any, tmp_path: Path) -> None:
    """Bit for bit: what is drawn for noise, speeds, masks, mixtures and alpha has no memory."""
    for name in ("noise", "rooms"):
        (tmp_path / name).mkdir()
        for index in range(3):
            sound = np.random.default_rng(index).standard_normal(4000) * np.geomspace(1, 0.01, 4000)
            soundfile.write(tmp_path / name / f"{index}.wav", 0.1 * sound, 16000)
    text = "alpha: !new:speechbrain_ext.distill.alpha.GradientBalance"
    switches = ["--noise_folder", tmp_path / "noise", "--rir_folder", tmp_path / "rooms"]
    switches += ["--speeds", "[1.0, 1.1]", "--spec_augment", True, "--mixup", 0.5]
    whole = distil(text, *switches, "--number_of_epochs", 2, folder="whole")
    distil(text, *switches, "--number_of_epochs", 1, folder="parts")
    parts = distil(text, *switches, "--number_of_epochs", 2, folder="parts")
    one, other = (
        load_file(folder / "save" / "embedding_model.safetensors") for folder in (whole, parts)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert log_of(whole)[1]["train"]["loss"] == pytest.approx(log_of(parts)[1]["train"]["loss"])


def test_terms_of_labels_and_of_the_batch_stopped_and_run_again(
    distil: Any, corpus: Path, tmp_path: Path
) -> None:
    """Bit for bit, with mixed crops, in bfloat16, at the speeds that the teacher knows as well."""
    teacher = tmp_path / "teacher"
    speeds = ["--speeds", "[1.0, 1.1]"]
    arguments = [*TEACHER, "--corpus_dir", corpus, "--output_folder", teacher, *speeds]
    run_training(TeacherBrain, [*map(str, arguments), "--number_of_epochs", "1"])
    switches = ["--teacher_folder", teacher, *speeds, "--mixup", 0.5, "--precision", "bf16"]
    whole = distil(EVERY_TERM, *switches, "--number_of_epochs", 2, folder="whole")
    distil(EVERY_TERM, *switches, "--number_of_epochs", 1, folder="parts")
    parts = distil(EVERY_TERM, *switches, "--number_of_epochs", 2, folder="parts")
    one, other = (
        load_file(folder / "save" / "embedding_model.safetensors") for folder in (whole, parts)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    weights = {"classification": 0.2, "distillation": 0.4}
    weights |= {"label": 0.2, "contrast": 0.1, "anchors": 0.1}
    texts = (whole / "train_log.txt").read_text().splitlines()
    for line, text in zip(log_of(whole), texts, strict=True):
        train = line["train"]
        assert line["alpha"] == pytest.approx(0.4) and 0 <= train["accuracy"] <= 1
        assert train["share"] == pytest.approx(1 - train["share_classification"], rel=1e-5)
        for term, weight in weights.items():
            part = weight * train[term]
            assert train[term] > 0 and train[f"share_{term}"] == pytest.approx(part / train["loss"])
        for figure in [*weights, "accuracy", "share", *(f"share_{term}" for term in weights)]:
            assert f"train {figure}: " in text, figure
    assert not list((whole / "save").glob("CKPT*/objective.ckpt"))  # these terms learn nothing
