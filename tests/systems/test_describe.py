"""What run.sh asks of experiments and of YAML files."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechbrain_ext.systems.describe import describe_yaml, enrols, student_options
from speechbrain_ext.systems.yaml import resolve_hparams
from tests.recipe.tiny import RECIPE

HPARAMS = RECIPE / "hparams"


def experiment(folder: Path, yaml: str, **overrides: str) -> Path:
    folder.mkdir(exist_ok=True)
    text = resolve_hparams(HPARAMS / yaml, overrides)
    (folder / "hyperparams.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("yaml", "overrides", "lie_in_it"),
    [
        ("v6.yaml", {}, True),
        ("v2.yaml", {"alpha": "auto"}, True),
        ("v2.yaml", {"lin_neurons": "512"}, False),
        ("v2.yaml", {"alpha": "0"}, False),
        ("v2.yaml", {"projection": "!new:torch.nn.Linear [192, 192]"}, False),
        ("v2_relational.yaml", {}, False),
        ("v2_kl.yaml", {}, False),
        ("v2_no_kd.yaml", {}, False),
        ("v6.yaml", {"teacher_folder": "exp/another"}, False),
    ],
)
def test_a_teacher_enrols_where_the_student_lies_in_its_space(
    tmp_path: Path, yaml: str, overrides: dict[str, str], lie_in_it: bool
) -> None:
    teacher = experiment(tmp_path / "teacher", "teachers/campplus.yaml")
    given = {"lin_neurons": "192", "corpus_dir": "data/x", "teacher_folder": str(teacher)}
    given |= overrides
    student = experiment(tmp_path / "student", yaml, **given)
    assert enrols(teacher, student) is lie_in_it


def test_what_a_student_of_an_experiment_needs(tmp_path: Path) -> None:
    came = experiment(tmp_path / "came", "teachers/ge2e.yaml")
    assert student_options(came) == "--lin_neurons 256"
    trained = experiment(tmp_path / "trained", "teacher.yaml", corpus_dir="data/x")
    assert student_options(trained) == ""


@pytest.mark.parametrize(
    ("yaml", "options"),
    [
        ("v2", "--classifier null --alpha 1"),
        ("v2_contrast", "--classifier null --alpha 0.75"),
        ("v6", ""),
    ],
)
def test_options_of_a_student_without_labels(yaml: str, options: str) -> None:
    """With which the weights of its loss are 1."""
    facts = describe_yaml(HPARAMS / f"{yaml}.yaml", HPARAMS / "teacher.yaml")
    assert facts["label_free"] == options
