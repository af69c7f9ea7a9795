"""Rounds in which the student of one is the teacher of the next."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import self_distill

from speechbrain_ext.errors import UserError
from tests.recipe.tiny import HANG, RECIPE, STUDENT, TEACHER, environment, make_corpus

pytestmark = pytest.mark.slow

OPTIONS = [*STUDENT[1:], "--number_of_epochs", "1"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus and a teacher, where experiments go to exp/tones."""
    place = tmp_path_factory.mktemp("workplace")
    make_corpus(place / "tones")
    result = run("train_teacher.py", *TEACHER[1:], yaml="teacher", cwd=place)
    assert result.returncode == 0, result.stderr
    return place


def run(script: str, *arguments: Any, yaml: str = "v2", cwd: Path) -> subprocess.CompletedProcess:
    given = [RECIPE / script, RECIPE / "hparams" / f"{yaml}.yaml", "--corpus_dir", "tones"]
    return subprocess.run(
        [sys.executable, *map(str, given), *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=HANG,
    )


def test_each_round_learns_from_the_last_and_finished_ones_are_kept(workplace: Path) -> None:
    exp = workplace / "exp" / "tones"
    result = run("self_distill.py", "--rounds", "1", *OPTIONS, cwd=workplace)
    assert result.returncode == 0, result.stderr
    first_checkpoints = sorted(path.name for path in (exp / "v2/seed_1/save").glob("CKPT*"))

    result = run("self_distill.py", "--rounds", "2", *OPTIONS, cwd=workplace)
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in (exp / "v2/seed_1/save").glob("CKPT*")) == first_checkpoints
    rounds = json.loads((exp / "v2/seed_1/rounds.json").read_text())
    folders = ["exp/tones/v2/seed_1", "exp/tones/v2_round2/seed_1"]
    assert [line["round"] for line in rounds] == [1, 2]
    assert [line["folder"] for line in rounds] == folders
    assert [line["teacher"] for line in rounds] == ["exp/tones/teacher/seed_1", folders[0]]
    for line in rounds:
        (epoch,) = (workplace / line["folder"] / "train_log.jsonl").read_text().splitlines()
        assert line["valid_eer"] == json.loads(epoch)["valid"]["eer"] and line["epoch"] == 1
        assert f"{line['valid_eer']:.2f}" in result.stdout
    settings = (exp / "v2_round2/seed_1/hyperparams.yaml").read_text()
    assert f"teacher_folder: {folders[0]}" in settings and "system: v2_round2" in settings


@pytest.mark.parametrize(
    ("arguments", "yaml", "words"),
    [
        (["--rounds", "0"], "v2", "--rounds 0 is too few"),
        (["--ngpu", "-1"], "v2", "--ngpu -1 is too few"),
        (["--alhpa", "0.5"], "v2", "has no key 'alhpa' to override: did you mean --alpha?"),
        (["--output_folder", "here"], "v2", "--output_folder here names one folder"),
        ([], "v2_no_kd", "v2_no_kd.yaml has no teacher that comes from teacher_folder"),
        ([], "teacher", "teacher.yaml has no teacher that comes from teacher_folder"),
        ([], "nothing", "nothing.yaml does not exist"),
    ],
)
def test_bad_input_is_a_sentence(
    arguments: list[str], yaml: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_corpus(tmp_path / "tones")
    monkeypatch.chdir(tmp_path)
    file = str(RECIPE / "hparams" / f"{yaml}.yaml")
    monkeypatch.setattr(sys, "argv", ["", file, "--corpus_dir", "tones", *arguments])
    with pytest.raises(UserError, match=words):
        self_distill.main()
    assert not (tmp_path / "exp").exists()


def test_the_yaml_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["", "--rounds", "2", "--alpha", "0.5"])
    with pytest.raises(UserError, match="the first argument is a system's YAML"):
        self_distill.main()


def test_a_round_that_fails_ends_it(tmp_path: Path) -> None:
    make_corpus(tmp_path / "tones")
    result = run("self_distill.py", *OPTIONS, cwd=tmp_path)
    assert result.returncode == 1
    assert "exp/tones/teacher/seed_1 is not an experiment folder" in result.stderr
    assert "round 1 failed, for the reason above" in result.stderr
