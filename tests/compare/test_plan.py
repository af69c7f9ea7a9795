"""What a comparison's file asks for, and the order of its runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechbrain_ext.compare.claims import read_claims
from speechbrain_ext.compare.commands import Workplace, training_arguments
from speechbrain_ext.compare.plan import read_plan
from tests.refusals import refused

SMALL = """
common: {number_of_epochs: 2}
systems:
    student:
        {yaml: v2.yaml, teacher: teacher, seeds: all, overrides: {speeds: [1.0, 0.9], alpha: auto}}
    teacher: {yaml: teacher.yaml}
    tuned: {yaml: v2.yaml, overrides: {number_of_epochs: 1, start_from: {experiment: student}}}
"""


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text)
    return path


def test_what_is_needed_comes_first(tmp_path: Path) -> None:
    """A teacher gets as many seeds as its students; seed 1 of all comes before seed 2 of any."""
    plan = read_plan(plan_file(tmp_path, SMALL))
    order = ["teacher seed_1", "student seed_1", "tuned seed_1", "teacher seed_2", "student seed_2"]
    assert [str(run) for run in plan.runs(2)] == order
    assert [str(run) for run in plan.runs(1, ["tuned"])] == order[:3]
    assert [str(run) for run in plan.runs(2, ["teacher"])] == [order[0], order[3]]
    first = read_plan(plan_file(tmp_path, SMALL + "first: [student]\n"))
    assert [str(run) for run in first.runs(2)] == [*order[:2], *order[3:], order[2]]


def test_settings_reach_the_command_line(tmp_path: Path) -> None:
    """Lists are YAML, a system's settings win over the common ones, folders are of its seed."""
    plan = read_plan(plan_file(tmp_path, SMALL))
    place = Workplace(plan, Path("data/mini"), Path("recipe"))
    student, tuned = (training_arguments(place, run) for run in plan.runs(2)[1:3])
    given = dict(zip(student[2::2], student[3::2], strict=True))
    assert student[0] == "recipe/hparams/v2.yaml"
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
    file = plan_file(tmp_path, NOISE)
    here = read_plan(file, {"noise_folder": Path("/data/musan")})
    assert here.systems["noisy"].overrides == {"noise_folder": "/data/musan"}
    assert len(here.runs(1)) == 6 and not here.left_out
    without = read_plan(file, {"noise_folder": None})
    assert list(without.left_out) == ["noisy", "again", "once_more"]
    assert without.left_out["once_more"] == "it needs again, which is left out"
    assert [str(run) for run in without.runs(1)][-1] == "tuned seed_1"
    with refused("left-out", "--only", "noisy", "--noise_folder"):
        without.runs(1, ["noisy"])
    with refused("bad-setting", "noisy", "given", "noise_folder, rir_folder"):
        read_plan(plan_file(tmp_path, NOISE.replace("given: noise", "given: babble")))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            ("teacher: teacher, seeds", "teacher: nobody, seeds"),
            ("unknown-name", "student: ", "nobody"),
        ),
        (("seeds: all", "seeds: 0"), ("bad-setting", "student", "seeds 0")),
        (("seeds: all", "sedes: all"), ("unknown-key", "student", "sedes")),
        (
            ("teacher: {yaml: teacher.yaml}", "teacher: {yaml: v2.yaml, teacher: tuned}"),
            ("circular", "teacher", "tuned"),
        ),
        (("tuned: {yaml: v2.yaml, ", "tuned: {"), ("missing-key", "tuned", "'yaml'", "'model'")),
        (("tuned: {", "tuned: {model: campplus, "), ("missing-key", "tuned", "'yaml'", "'model'")),
        (("systems:", "system:"), ("missing-key", "'systems'")),
        (("common:", "first: [x]\ncommon:"), ("unknown-name", "first: ", " x;")),
        (("common:", "lengths: [10, 1]\ncommon:"), ("bad-setting", "lengths [10, 1]")),
        (("common:", "score_norm: znorm\ncommon:"), ("bad-setting", "score_norm znorm")),
        (("common:", "lengths: 10\ncommon:"), ("bad-setting", "lengths 10")),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: tuple[str, str], told: tuple[str, ...]) -> None:
    """One sentence each, before anything is trained."""
    with refused(*told):
        read_plan(plan_file(tmp_path, SMALL.replace(*change)))


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ("{id: a, claim: b, source: c, test: {better: student, worse: x}}", ("unknown-name", " x")),
        ("{id: a, claim: b, source: c, test: {best: student}}", ("bad-claim", "better", "best")),
        ("{id: a, claim: b, source: c, test: {better: student}}", ("bad-claim", "better", "worse")),
        ("{id: a, claim: b, source: c, test: {share: student}}", ("bad-claim", "share")),
        ("{id: a, claim: b, source: c}", ("bad-claim", "untested", "id, claim, source")),
    ],
)
def test_mistakes_in_claims_are_named(tmp_path: Path, claim: str, told: tuple[str, ...]) -> None:
    """A claim about a system that is not there, or with a test that is none."""
    plan = read_plan(plan_file(tmp_path, f"{SMALL}\nclaims: [{claim}]\n"))
    with refused(*told):
        read_claims(plan)
