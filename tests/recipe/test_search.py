"""A search for a small network: it goes on where it was, keeps limits, and says what was found."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path
from typing import Any

import pytest

from speechbrain_ext.errors import UserError
from tests.recipe.tiny import RECIPE, TEACHER, make_corpus, run

pytest.importorskip("optuna")
pytest.importorskip("onnxruntime")
from speechbrain_ext.compare.search import Search

pytestmark = pytest.mark.slow

SEARCH = f"""
title: Small
yaml: {RECIPE}/hparams/v6.yaml
objective: eer
common: {{number_of_epochs: 1, crop_seconds: 0.5, batch_size: 8, lin_neurons: 16, num_workers: 0,
    speeds: [1.0], average_checkpoints: 1}}
space:
    channels: [16, 32]
    pooling:
        - !name:speechbrain_ext.nnet.pooling.AttentiveStatisticsPooling
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("search")
    corpus = make_corpus(root / "corpus")
    given = [*TEACHER, "--corpus_dir", corpus, "--output_folder", root / "teacher"]
    assert run("train_teacher.py", *given).returncode == 0
    (root / "small.yaml").write_text(SEARCH)
    return root


def search(
    place: Path, *options: Any, yaml: str = "small.yaml"
) -> subprocess.CompletedProcess[str]:
    folders = ["--corpus_dir", place / "corpus", "--teacher_folder", place / "teacher"]
    return run("search.py", place / yaml, *folders, *options)


def candidates(folder: Path) -> list[dict[str, str]]:
    with open(folder / "search.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_goes_on_and_ends_with_all_there_are(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = search(place, "--trials", 1, "--out", out)
    assert first.returncode == 0, first.stderr
    assert len(candidates(out)) == 1
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/seed_1/train_log.jsonl")}
    again = search(place, "--trials", 9, "--out", out)
    assert again.returncode == 0, again.stderr
    rows = candidates(out)
    assert {row["channels"] for row in rows} == {"16", "32"} and len(rows) == 2
    assert all("AttentiveStatisticsPooling" in row["pooling"] for row in rows)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    best = min(rows, key=lambda row: (float(row["eer"]), float(row["latency_ms"])))
    text = (out / "best.yaml").read_text()
    assert f"channels: {best['channels']}\n" in text and "system: small_best" in text
    page = (out / "RESULTS.md").read_text()
    assert "2 candidates, of which 2 kept the limits (none)" in page
    assert "(frontier.png)" in page and (out / "frontier.png").is_file()
    for row in rows:
        assert (f"| {row['candidate']} | {row['channels']} |" in page) == (
            row["on_frontier"] == "True"
        )
    other = SEARCH.replace("[16, 32]", "[16, 48]")
    (place / "small.yaml").write_text(other)
    refused = search(place, "--trials", 9, "--out", out)
    (place / "small.yaml").write_text(SEARCH)
    assert refused.returncode == 1 and "as it was before" in refused.stderr


def test_what_exceeds_a_limit_is_not_trained(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = search(place, "--trials", 2, "--max_params", 30000, "--out", out)
    assert done.returncode == 0, done.stderr
    rows = candidates(out)
    assert len(rows) == 2
    for row in rows:
        trained = int(row["parameters"]) <= 30000
        assert bool(row["eer"]) == trained
        assert (out / f"candidate_{row['candidate']}").exists() == trained
    none = search(place, "--trials", 2, "--max_params", 10, "--out", tmp_path / "none")
    assert none.returncode == 1 and "keeps the limits: raise --max_params" in none.stderr


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("objective: eer", "objective: loss", "objective loss is none of eer, rank_correlation"),
        ("channels: [16, 32]", "channels: 16", "space: channels is 16"),
        ("title: Small", "name: small", "has no title"),
        ("objective: eer", "objective: eer\nlimits: {}", "unknown key limits"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, before: str, after: str, words: str) -> None:
    (tmp_path / "wrong.yaml").write_text(SEARCH.replace(before, after))
    with pytest.raises(UserError) as error:
        Search.read(tmp_path / "wrong.yaml")
    assert words in str(error.value) and "wrong.yaml" in str(error.value)


def test_a_key_that_nothing_reads_is_one_sentence(place: Path) -> None:
    (place / "wrong.yaml").write_text(SEARCH.replace("channels:", "chanels:"))
    done = search(place, "--out", place / "wrong", yaml="wrong.yaml")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and "has no key 'chanels'" in line
