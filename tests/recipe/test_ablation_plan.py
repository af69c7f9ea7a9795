"""What an ablation's file asks for, and the order of its runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ablate
import pytest
import torch

from speechbrain_ext.compare.claims import Better, Claim, read_claims
from speechbrain_ext.compare.collect import collect, why_missing
from speechbrain_ext.compare.commands import Place, resolved_settings, training_arguments
from speechbrain_ext.compare.page import page
from speechbrain_ext.compare.plan import Run, read_ablation
from speechbrain_ext.compare.records import FINISHED, WAITING, Record
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.errors import UserError
from speechbrain_ext.systems.command_line import read_command_line
from speechbrain_ext.systems.experiment import save_weights
from speechbrain_ext.systems.yaml import check_overrides
from speechbrain_ext.training.distill import DistillBrain
from speechbrain_ext.training.teacher import TeacherBrain
from tests.recipe.tiny import RECIPE, environment

SMALL = """
common: {number_of_epochs: 2}
systems:
    student:
        {yaml: v2.yaml, teacher: teacher, seeds: all, overrides: {speeds: [1.0, 0.9], alpha: auto}}
    teacher: {yaml: teacher.yaml}
    tuned: {yaml: v2.yaml, overrides: {number_of_epochs: 1, start_from: {experiment: student}}}
"""


def ablation_file(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text)
    return path


def test_what_is_needed_comes_first(tmp_path: Path) -> None:
    """A teacher gets as many seeds as its students; seed 1 of all comes before seed 2 of any."""
    ablation = read_ablation(ablation_file(tmp_path, SMALL))
    order = ["teacher seed_1", "student seed_1", "tuned seed_1", "teacher seed_2", "student seed_2"]
    assert [str(run) for run in ablation.runs(2)] == order
    assert [str(run) for run in ablation.runs(1, ["tuned"])] == order[:3]
    assert [str(run) for run in ablation.runs(2, ["teacher"])] == [order[0], order[3]]
    first = read_ablation(ablation_file(tmp_path, SMALL + "first: [student]\n"))
    assert [str(run) for run in first.runs(2)] == [*order[:2], *order[3:], order[2]]


def test_settings_reach_the_command_line(tmp_path: Path) -> None:
    """Lists are YAML, a system's settings win over the common ones, folders are of its seed."""
    ablation = read_ablation(ablation_file(tmp_path, SMALL))
    place = Place(ablation, Path("data/mini"))
    student, tuned = (training_arguments(place, run) for run in ablation.runs(2)[1:3])
    given = dict(zip(student[2::2], student[3::2], strict=True))
    assert student[0].endswith("hparams/v2.yaml")
    assert given == {
        "--number_of_epochs": "2",
        "--speeds": "[1.0, 0.9]",
        "--alpha": "auto",
        "--teacher_folder": "exp/mini/some/teacher/seed_1",
        "--system": "student",
        "--corpus_dir": "data/mini",
        "--exp_root": "exp",
        "--seed": "1",
        "--output_folder": "exp/mini/some/student/seed_1",
    }
    given = dict(zip(tuned[2::2], tuned[3::2], strict=True))
    assert given["--number_of_epochs"] == "1"
    assert given["--start_from"] == "exp/mini/some/student/seed_1"


def finished(place: Place, run: Run) -> Path:
    """The folder of a run as its training leaves it."""
    Record(status=FINISHED).write(place.record(run))
    folder = place.experiment(run.system.name, run.seed)
    figures = {"train": {"seconds": 1.0}, "valid": {"eer": 5.0, "seconds": 1.0}}
    lines = [json.dumps({"epoch": epoch, **figures}) for epoch in (1, 2)]
    save_weights(folder, torch.nn.Linear(1, 1), {"epochs": "[2]"})
    (folder / "train_log.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def empty(path: Path) -> None:
    path.write_text("")


def last_epoch_lost(path: Path) -> None:
    path.write_text(path.read_text().splitlines()[0])


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("train_log.jsonl", empty),
        ("train_log.jsonl", last_epoch_lost),
        ("train_log.jsonl", Path.unlink),
        ("save/embedding_model.safetensors", empty),
    ],
)
def test_a_run_whose_files_are_damaged_is_missing(
    tmp_path: Path, file: str, damage: Callable[[Path], None]
) -> None:
    """The others are reported all the same."""
    place = Place(read_ablation(ablation_file(tmp_path, SMALL)), tmp_path, exp_root=tmp_path)
    runs, corpus = place.ablation.runs(1), Corpus(tmp_path, "mine", "Mine", False, {})
    folders = [finished(place, run) for run in runs]
    trained, missing = collect(place, runs, corpus)
    assert len(trained) == 3 and not missing
    damage(folders[0] / file)
    trained, missing = collect(place, runs, corpus)
    assert len(trained) == 2 and missing == runs[:1]
    why = "files are gone or damaged: remove its folder, run again"
    assert why_missing(place, runs[0]) == (WAITING, why)


@pytest.mark.parametrize("content", ["", "[]", '{"unknown": 1}'])
def test_a_damaged_record_is_that_of_a_run_not_begun(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert Record.read(tmp_path / "x.json") == Record()


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """ablate.py without its work: what it would have done."""
    done: list[str] = []

    class Runs:
        def __init__(self, *given: Any) -> None:
            done.append("trained")

        def run(self) -> int:
            return 0

    def write(*given: Any) -> Path:
        done.append(f"written, alone: {given[-1]}")
        return tmp_path

    monkeypatch.setattr(ablate, "Runner", Runs)
    monkeypatch.setattr(ablate, "write_results", write)
    monkeypatch.setattr(Corpus, "read", lambda manifests: None)
    file, places = ablation_file(tmp_path, SMALL), ["--corpus_dir", "x", "--exp_root", tmp_path]

    def run(*more: str) -> list[str]:
        done.clear()
        ablate.main([*map(str, [file, *places, *more])])
        return done

    return run


def test_one_comparison_at_a_time(tmp_path: Path, main: Callable[..., list[str]]) -> None:
    """Beside it another may report, but not measure speed."""
    assert main() == ["trained", "written, alone: True"]
    (log,) = tmp_path.glob("x/*/log")
    hold = "from speechbrain_ext.files import claimed\n"
    hold += f"with claimed({str(log)!r}, ''): print(flush=True); input()"
    pipe, code = subprocess.PIPE, [sys.executable, "-c", hold]
    with subprocess.Popen(code, stdin=pipe, stdout=pipe, env=environment()) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UserError, match="another ablate.py is at work in .*: wait for its end"):
            main()
        assert main("--report_only") == ["written, alone: False"]
        other.kill()
    assert main("--report_only") == ["written, alone: True"]


def test_a_file_system_without_locks(
    main: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    monkeypatch.setattr("fcntl.flock", refuse)
    assert main() == ["trained", "written, alone: True"]


NOISE = (
    SMALL
    + """
    noisy: {yaml: v2.yaml, overrides: {noise_folder: {given: noise_folder}}}
    again: {yaml: v2.yaml, teacher: noisy}
    once_more: {yaml: v2.yaml, teacher: again}
"""
)


def test_folders_come_from_the_command_line(tmp_path: Path) -> None:
    """Systems whose folder is not here are left out, with those that need them."""
    file = ablation_file(tmp_path, NOISE)
    here = read_ablation(file, {"noise_folder": Path("/data/musan")})
    assert here.systems["noisy"].overrides == {"noise_folder": "/data/musan"}
    assert len(here.runs(1)) == 6 and not here.left_out
    without = read_ablation(file, {"noise_folder": None})
    assert list(without.left_out) == ["noisy", "again", "once_more"]
    assert without.left_out["once_more"] == "it needs again, which is left out"
    assert [str(run) for run in without.runs(1)][-1] == "tuned seed_1"
    with pytest.raises(UserError, match="--only: noisy is left out: .*--noise_folder names no"):
        without.runs(1, ["noisy"])
    with pytest.raises(UserError, match="noisy: given is one of noise_folder, rir_folder"):
        read_ablation(ablation_file(tmp_path, NOISE.replace("given: noise", "given: babble")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("teacher: teacher, seeds", "teacher: nobody, seeds"), "student: .* no system nobody"),
        (("seeds: all", "seeds: 0"), "student has seeds 0"),
        (("seeds: all", "sedes: all"), "nothing reads the key sedes"),
        (("teacher: {yaml: teacher.yaml}", "teacher: {yaml: v2.yaml, teacher: tuned}"), "circle"),
        (("tuned: {yaml: v2.yaml, ", "tuned: {"), "tuned has no 'yaml'"),
        (("systems:", "system:"), "has no 'systems'"),
        (("common:", "first: [x]\ncommon:"), "first: there is no system x"),
        (("common:", "lengths: [10, 1]\ncommon:"), r"lengths \[10, 1\]: give rising seconds"),
        (("common:", "lengths: 10\ncommon:"), "lengths 10: give rising seconds"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    """One sentence each, before anything is trained."""
    with pytest.raises(UserError, match=message):
        read_ablation(ablation_file(tmp_path, SMALL.replace(*change)))


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("{id: a, claim: b, source: c, test: {better: student, worse: x}}", "no system x"),
        ("{id: a, claim: b, source: c, test: {best: student}}", "begins with one of"),
        ("{id: a, claim: b, source: c, test: {better: student}}", "no such test"),
        ("{id: a, claim: b, source: c, test: {share: student}}", "no such test"),
        ("{id: a, claim: b, source: c}", "either test or untested"),
    ],
)
def test_mistakes_in_claims_are_named(tmp_path: Path, claim: str, message: str) -> None:
    """A claim about a system that is not there, or with a test that is none."""
    ablation = read_ablation(ablation_file(tmp_path, f"{SMALL}\nclaims: [{claim}]\n"))
    with pytest.raises(UserError, match=message):
        read_claims(ablation)


@pytest.mark.parametrize(
    ("name", "claims"), [("documents", 30), ("sv_mixer_tables", 9), ("ssl_small", 7)]
)
def test_the_files_are_whole(name: str, claims: int) -> None:
    """Their claims are about their systems; the settings of every run can be made."""
    folders = {"noise_folder": Path("/data/musan"), "rir_folder": Path("/data/rirs")}
    ablation = read_ablation(RECIPE / "hparams" / "ablations" / f"{name}.yaml", folders)
    assert not ablation.left_out
    ids = [claim.id for claim in read_claims(ablation)]
    assert len(ids) == len(set(ids)) > claims
    place = Place(ablation, Path("data/some"))
    for run in ablation.runs(1):
        arguments = training_arguments(place, run)
        _, tree = resolved_settings(arguments)
        assert tree["system"] == run.system.name
        line = read_command_line(arguments)
        check_overrides(line.path, DistillBrain.reads | TeacherBrain.reads, line.overrides)


def test_claims_about_error_rates_need_a_test_list(tmp_path: Path) -> None:
    """Without one they are counted, not left out."""
    ablation = read_ablation(ablation_file(tmp_path, SMALL))
    corpus = Corpus(tmp_path, "mine", "Mine", False, {})
    claims = [
        Claim("a", "It is better.", "1", "", Better("student", "teacher")),
        Claim("b", "Nobody knows.", "1", "", None, "there is no way"),
    ]
    text = page(Place(ablation, tmp_path), corpus, [], [], [], claims, {}, "ablate.py")
    said = "The corpus has no test list, so the claims about error rates, 1 of 2, are not tested."
    assert said in text.splitlines()
