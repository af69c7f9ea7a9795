"""A model folder runs no other code than that of SpeechBrain, PyTorch and this package."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.files import file_digest
from speechbrain_ext.inference.verifier import SpeakerVerifier
from speechbrain_ext.lobes.speechbrain_model import SpeechBrainModel
from speechbrain_ext.systems.experiment import kept_sha256
from speechbrain_ext.systems.pretrained import load_pretrained
from speechbrain_ext.trust import refuse_foreign_code
from tests.recipe.experiments import make_experiment
from tests.refusals import refused

HPARAMS = Path(__file__).parents[2] / "recipes/VoxCeleb/distill_mixer/hparams"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    write_model_folder(make_experiment(folder / "exp"), folder / "export")
    return folder / "export"


def with_yaml(exported: Path, folder: Path, lines: str) -> str:
    """A copy whose YAML has more lines, and whose digests know them."""
    shutil.copytree(exported, folder)
    yaml = folder / "hyperparams.yaml"
    yaml.write_text(yaml.read_text(encoding="utf-8") + lines, encoding="utf-8")
    facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    facts["sha256"]["hyperparams.yaml"] = file_digest(yaml)
    (folder / "model.json").write_text(json.dumps(facts), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("trap: !apply:os.mkdir ['{trap}']", "os.mkdir"),
        ("trap: !new:subprocess.Popen [['mkdir', '{trap}']]", "subprocess.Popen"),
        ("trap: !name:os.system", "os.system"),
        ("trap: !module:custom", "custom"),
        ("trap: !applyref:os.mkdir ['{trap}']", "os.mkdir"),
        ("trap: !apply:torch.os.mkdir ['{trap}']", "torch.os.mkdir"),
        ("trap: !module:torch.os", "torch.os"),
        ("trap: !apply:torchvision.thing []", "torchvision.thing"),
        ("trap: !!python/object/apply:os.mkdir ['{trap}']", "python/object/apply:os.mkdir"),
        ("trap: !include:other.yaml", "!include:other.yaml"),
        ("list: [1, {{deep: !apply:os.mkdir ['{trap}']}}]", "os.mkdir"),
    ],
)
def test_other_code_is_refused(exported: Path, tmp_path: Path, lines: str, code: str) -> None:
    trap = tmp_path / "trap"
    source = with_yaml(exported, tmp_path / "folder", "\n" + lines.format(trap=trap) + "\n")
    for load in (SpeakerVerifier.from_hparams, load_pretrained, SpeechBrainModel):
        with refused("foreign-code", source, code, "trust=True", "--trust"):
            load(source)
    assert not trap.exists()


def test_what_is_trusted_runs(exported: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    lines = f"\ntrap: !apply:os.mkdir ['{trap}']\n"
    source = with_yaml(exported, tmp_path / "folder", lines)
    for load in (SpeakerVerifier.from_hparams, load_pretrained, SpeechBrainModel):
        load(source, trust=True)
        trap.rmdir()
        load(str(exported))


def test_all_that_the_recipe_makes_is_trusted(tmp_path: Path) -> None:
    """What its YAML names, each by itself, since a system is made of several files."""
    texts = [path.read_text(encoding="utf-8") for path in HPARAMS.rglob("*.yaml")]
    calls = {
        call for text in texts for call in re.findall(r"!(?:new|name|apply|applyref):[\w.]+", text)
    }
    assert "!apply:operator.gt" in calls
    yaml = tmp_path / "all.yaml"
    yaml.write_text("".join(f"- {each} []\n" for each in sorted(calls)), encoding="utf-8")
    refuse_foreign_code(yaml)


def test_an_experiment_is_trusted_alike(exported: Path, tmp_path: Path) -> None:
    """By what is made of its YAML, which is not all of it."""
    folder, trap = tmp_path / "exp", tmp_path / "trap"
    shutil.copytree(exported.parent / "exp", folder)
    yaml = folder / "hyperparams.yaml"
    text = yaml.read_text(encoding="utf-8")
    yaml.write_text(f"{text}\noptimiser: !apply:os.mkdir ['{trap}']\n", encoding="utf-8")
    load_pretrained(folder)
    network = "!new:speechbrain_ext.lobes.mixer.MLPMixer"
    assert network in text
    yaml.write_text(text.replace(network, "!new:subprocess.Popen"), encoding="utf-8")
    with refused("foreign-code", yaml, "subprocess.Popen"):
        load_pretrained(folder)
    assert not trap.exists()


def test_a_student_says_who_taught_it(exported: Path, tmp_path: Path) -> None:
    """By the weights that the teacher's own folder tells of."""
    student, teacher = make_experiment(tmp_path / "exp"), make_experiment(tmp_path / "teacher")
    yaml = student / "hyperparams.yaml"
    text = yaml.read_text(encoding="utf-8")
    yaml.write_text(text.replace("exp/mini/teacher/seed_1", str(teacher)), encoding="utf-8")
    facts = write_model_folder(student, tmp_path / "export")
    assert facts["taught_by"] == kept_sha256(teacher) is not None
    assert facts["taught_by"] == write_model_folder(teacher, tmp_path / "t")["weights_sha256"]
    assert json.loads((exported / "model.json").read_text())["taught_by"] is None
