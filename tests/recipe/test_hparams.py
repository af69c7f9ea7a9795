"""Systems that differ from their parent by what sets them apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import ruamel.yaml
import torch
from train_distill import DistillBrain
from train_teacher import TeacherBrain

from local.hparams import (
    check_overrides,
    load_hparams,
    read_setting,
    resolve_hparams,
)
from local.identity import claim_folder
from speechbrain_ext.distill.losses import CosineDistillation, KLDistillation, MSEDistillation
from speechbrain_ext.errors import UserError
from speechbrain_ext.inference.experiments import encoder_yaml, save_weights
from tests.recipe.tiny import RECIPE, make_corpus

MIXER = {"v1": 2_664_576, "v2": 2_664_576, "v2_kl": 2_664_576}
MIXER |= {"v2_large": 7_844_864, "v2_large_low_alpha": 7_844_864}
LOSSES = {
    "v1": (MSEDistillation, 0.5),
    "v2": (CosineDistillation, 0.7),
    "v2_kl": (KLDistillation, 0.7),
}
LOSSES |= {"v2_large": (CosineDistillation, 0.7), "v2_large_low_alpha": (CosineDistillation, 0.4)}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SpeechBrain's checkpointer makes its folder when it is made."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpora") / "little")


@pytest.fixture(scope="module")
def teacher(corpus: Path) -> Path:
    overrides = f"corpus_dir: {corpus}\noutput_folder: {corpus}/teacher"
    hparams, text = load_hparams(RECIPE / "hparams" / "teacher.yaml", overrides)
    model = hparams["embedding_model"]
    assert sum(p.numel() for p in model.parameters()) == 3_873_745
    save_weights(corpus / "teacher", model, {})
    (corpus / "teacher" / "hyperparams.yaml").write_text(text)
    return corpus / "teacher"


@pytest.mark.parametrize("system", MIXER)
def test_each_system_is_what_the_documents_tabulate(
    system: str, corpus: Path, teacher: Path
) -> None:
    overrides = f"corpus_dir: {corpus}\nteacher_folder: {teacher}"
    hparams, _ = load_hparams(RECIPE / "hparams" / f"{system}.yaml", overrides)
    assert hparams["system"] == system
    assert hparams["output_folder"] == f"exp/little/{system}/seed_1"
    assert sum(p.numel() for p in hparams["embedding_model"].parameters()) == MIXER[system]
    loss, alpha = LOSSES[system]
    objective = hparams["objective"]
    assert type(objective.distillation) is loss and objective.alpha.value == alpha
    assert getattr(hparams["distillation"], "temperature", 4.0) == 4.0
    assert hparams["num_speakers"] == 6 and hparams["classifier"].weight.shape == (6, 512)
    assert hparams["embedding_model"] is hparams["modules"]["embedding_model"]


def test_learning_rate_falls_from_the_first_epoch_on(corpus: Path) -> None:
    hparams, _ = load_hparams(RECIPE / "hparams" / "teacher.yaml", f"corpus_dir: {corpus}")
    steps = [hparams["lr_annealing"](epoch) for epoch in (1, 2)]
    assert steps == [
        (pytest.approx(5e-4), pytest.approx(4.9e-4)),
        (pytest.approx(4.9e-4), pytest.approx(4.802e-4)),
    ]


def test_the_last_of_two_overrides_counts(corpus: Path) -> None:
    overrides = f"corpus_dir: {corpus}\nlr: 1\nlr: 0.25"
    assert load_hparams(RECIPE / "hparams" / "teacher.yaml", overrides)[0]["lr"] == 0.25


def test_a_class_in_a_child_replaces_the_parents_whole(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(
        "size: 3\nlayer: !new:torch.nn.Linear\n  in_features: 2\n  out_features: !ref <size>\n"
    )
    (tmp_path / "child.yaml").write_text(
        "!include:parent.yaml\nsize: 5\nlayer: !new:torch.nn.ReLU\n"
    )
    hparams, text = load_hparams(tmp_path / "child.yaml")
    assert isinstance(hparams["layer"], torch.nn.ReLU) and hparams["size"] == 5
    assert "Linear" not in text and "!ref" not in text
    (tmp_path / "grandchild.yaml").write_text("!include:child.yaml\nsize: 7\n")
    assert load_hparams(tmp_path / "grandchild.yaml")[0]["size"] == 7


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1", "is not valid YAML"),
        ("a: !ref <b>", "x.yaml"),
        ("!include:no.yaml\na: 1", "no.yaml does not exist"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_hparams(tmp_path / "x.yaml")


def test_reading_one_setting_makes_no_class(tmp_path: Path) -> None:
    (tmp_path / "hyperparams.yaml").write_text("a: 1\nb: !new:no.such.Class\n")
    assert read_setting(tmp_path, "a") == 1
    with pytest.raises(UserError, match="not an experiment folder"):
        read_setting(tmp_path / "other", "a")


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "speaker1").mkdir()
    with pytest.raises(UserError, match="holds other things than an experiment, speaker1"):
        claim_folder(tmp_path, "a: 1", {})
    assert not (tmp_path / "hyperparams.yaml").exists()


def test_an_override_that_would_change_nothing_is_refused() -> None:
    """The aligned student has its teacher from a folder, so that nothing reads teacher_source."""
    aligned = RECIPE / "hparams" / "ssl" / "sv_mixer_aligned.yaml"
    for override in ("teacher_source: there", "teacher_layers: [6]", "n_mels: 40"):
        key = override.partition(":")[0]
        with pytest.raises(UserError, match=f"--{key} .* would change nothing"):
            check_overrides(aligned, DistillBrain.reads, override)
    check_overrides(aligned, DistillBrain.reads, "teacher_folder: there\nalpha: 0.5")
    hidden = RECIPE / "hparams" / "ssl" / "sv_mixer_wavlm_large.yaml"
    check_overrides(hidden, DistillBrain.reads, "teacher_source: there\nteacher_layers: [6]")


def test_what_run_sh_gives_on_the_embedded_corpus_is_read() -> None:
    """Whatever system is trained there."""
    text = (RECIPE / "run.sh").read_text()
    mini = dict(re.findall(r'^mini_(\w*)args="([^"]*)"', text, re.MULTILINE))
    hparams = RECIPE / "hparams"
    systems = [*hparams.glob("*.yaml"), *(hparams / "ssl").glob("*.yaml")]
    for path in systems:
        tree = ruamel.yaml.YAML().load(resolve_hparams(path))
        if "system" not in tree:
            continue
        brain = DistillBrain if "objective" in tree else TeacherBrain
        given = mini[""] + " " + mini["student_" if "objective" in tree else "teacher_"]
        words = (mini["ssl_"] if "teacher_source" in tree else given).split()
        pairs = zip(words[::2], words[1::2], strict=True)
        overrides = "\n".join(f"{key[2:]}: {value}" for key, value in pairs)
        check_overrides(path, brain.reads, overrides)
    assert len(systems) > 60


def test_an_embedding_model_without_keywords_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "hyperparams.yaml"
    for node in ("!new:torch.nn.Identity", "!new:torch.nn.Linear [4, 2]"):
        path.write_text(f"compute_features: 1\nmean_var_norm: 2\nembedding_model: {node}\n")
        assert node in encoder_yaml(tmp_path)
