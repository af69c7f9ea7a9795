"""What is looked at of a large-margin training before the training that it follows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speechbrain_ext.training.second import check_second
from tests.recipe.experiments import make_experiment
from tests.recipe.tiny import RECIPE, STUDENT, make_corpus
from tests.refusals import refused


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Look at the second of two, neither of which is there yet."""
    monkeypatch.chdir(RECIPE)
    make_corpus(tmp_path / "tones")
    make_experiment(tmp_path / "teacher", "teacher")

    def run(yaml: str, *more: Any) -> None:
        given = [*STUDENT[1:], "--corpus_dir", tmp_path / "tones"]
        given += ["--teacher_folder", tmp_path / "teacher", "--output_folder"]
        first, second = tmp_path / "first", tmp_path / "second"
        start = [f"hparams/{yaml}", *given, second, "--start_from", first, *more]
        check_second([*map(str, [*STUDENT[:1], *given, first])], [*map(str, start)])

    return run


def test_one_that_can_begin(tmp_path: Path, check: Callable[..., None]) -> None:
    check("v2_large_margin.yaml", "--margin", 0.4)
    assert not (tmp_path / "first").exists() and not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("yaml", "more", "told"),
    [
        (
            "v2_large_margin.yaml",
            ["--channels", 24],
            ("other-network", "v2_large_margin", "v2.yaml", "[16", "[24", "--large_margin_args"),
        ),
        ("v2_large_margin.yaml", ["--marjin", 0.4], ("unknown-key", "marjin", "--margin")),
        ("v2_large_margin.yaml", ["--lr", "fast"], ("bad-setting", "lr", "'fast'")),
        ("v2_large_margin.yaml", ["--noise_folder", "musan"], ("bad-setting", "musan")),
        ("v2_large_margin.yaml", ["--groups", 3], ("bad-setting", "v2_large_margin.yaml", "3")),
        ("teacher.yaml", [], ("wrong-system", "teacher.yaml")),
    ],
)
def test_one_that_cannot(
    check: Callable[..., None], yaml: str, more: list[Any], told: tuple[str, ...]
) -> None:
    with refused(*told):
        check(yaml, *more)


def test_a_margin_needs_labels(tmp_path: Path, check: Callable[..., None]) -> None:
    path = tmp_path / "tones/manifests/train.csv"
    with open(path, newline="") as file:
        rows = [{**row, "spk_id": ""} for row in csv.DictReader(file)]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with refused("no-labels", path, "v2_large_margin.yaml", "--large_margin"):
        check("v2_large_margin.yaml")
