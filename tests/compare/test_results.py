"""What is written of a comparison, from files as finished runs leave them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from speechbrain_ext.compare.claims import Better, Claim, judge, read_claims
from speechbrain_ext.compare.collect import Evidence, Missing, finished_runs
from speechbrain_ext.compare.commands import FINISHED, WAITING, Record, Workplace
from speechbrain_ext.compare.page import results_page
from speechbrain_ext.compare.plan import Plan, Run, read_plan
from speechbrain_ext.compare.results import write_results
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.systems.experiment import save_weights
from tests.compare import finished

SMALL = """
systems:
    student: {yaml: v2.yaml, teacher: teacher}
    teacher: {yaml: teacher.yaml}
    tuned: {yaml: v2.yaml, overrides: {start_from: {experiment: student}}}
"""
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def read(folder: Path, text: str) -> Plan:
    (folder / "some.yaml").write_text(text)
    return read_plan(folder / "some.yaml")


def page_of(file: Path, corpus: Path, exp_root: Path = Path("exp")) -> str:
    """What is written of a plan whose runs are finished or not."""
    plan = read_plan(file, {})
    place = Workplace(plan, corpus, Path("recipe"), exp_root)
    command = "python compare.py"
    return write_results(place, plan.runs(2), read_claims(plan), command, False).read_text()


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison, written of runs that were never trained."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("never"))
        file, corpus = finished.make(Path("."))
        plan = read_plan(file, {})
        place = Workplace(plan, corpus, Path("recipe"))
        command = "python compare.py never.yaml --seeds 2"
        return write_results(
            place, plan.runs(2), read_claims(plan), command, False
        ).parent.resolve()


@pytest.mark.parametrize("name", ["RESULTS.md", "results.csv", "cost_by_length.csv"])
def test_every_word_is_as_it_was(never: Path, name: str) -> None:
    """Against a page that was looked at; its numbers may differ by what kernels do."""
    expected = (Path(__file__).parent / "never" / name).read_text(encoding="utf-8")
    written = (never / name).read_text(encoding="utf-8")
    assert NUMBER.sub("0", written).splitlines() == NUMBER.sub("0", expected).splitlines()
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (written, expected)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-2, abs=0.02)


def test_pictures_are_beside_the_page(never: Path) -> None:
    pictures = re.findall(r"!\[.*\]\((.*)\)", (never / "RESULTS.md").read_text())
    assert pictures == [
        "eer_throughput_dev.png",
        "eer_parameters_dev.png",
        "cost_by_length.png",
    ]
    for name in pictures:
        assert (never / name).is_file() and (never / name).with_suffix(".svg").is_file()


def test_a_model_that_came_along_has_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, corpus = finished.make(Path("."))
    file.write_text(finished.PLAN.replace("yaml: teacher.yaml, seeds: all", "model: campplus"))
    folder = Path("exp/corpus/never")
    (folder / "teacher/seed_1/train_log.jsonl").unlink()
    text = page_of(file, corpus)
    assert "| teacher | model campplus | – | `lr 0.5` | – | – | – |" in text
    row = next(line for line in text.splitlines() if line.startswith("| teacher | 1 |"))
    assert re.search(r"\| \d+\.\d\d \| \d+\.\d\d to \d+\.\d\d \|", row)  # its error rate is there


def test_runs_that_are_not_normalised_yet_have_their_cosines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of another norm are no scores of this one."""
    monkeypatch.chdir(tmp_path)
    file, corpus = finished.make(Path("."))
    file.write_text(finished.PLAN.replace("score_norm: asnorm", "score_norm: snorm"))
    log = Path("exp/corpus/never/log/good_seed_1.json")
    log.write_text(log.read_text().replace("x asnorm", "x snorm"))
    cosines, _, rest = page_of(file, corpus).partition("## Systems: Dev, S-norm")
    assert re.search(r"\| poor \| 1 \| .* \d+\.\d\d to \d+\.\d\d \|", cosines)
    normalized = rest.partition("\n## ")[0]
    assert re.search(r"\| good \| 1 \| .* \d+\.\d\d to \d+\.\d\d \|", normalized)
    assert re.search(r"\| poor \| 0 \| .* \| not normalised \| – \|", normalized)


def test_nothing_is_finished_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report says so of every run and every claim."""
    monkeypatch.chdir(tmp_path)
    file, corpus = finished.make(Path("."))
    Path("elsewhere/corpus/never").mkdir(parents=True)
    page = page_of(file, corpus, Path("elsewhere"))
    assert "No run is finished." in page and "Speeds have not been measured yet." in page
    assert page.count(" *not decided* |") == 8 and "| teacher | 2 | not run | – | – |" in page


def test_claims_about_error_rates_need_a_test_list(tmp_path: Path) -> None:
    """Without one they are counted, not left out."""
    claims = [
        Claim("a", "It is better.", "1", "", Better("student", "teacher")),
        Claim("b", "Nobody knows.", "1", "", None, "there is no way"),
    ]
    corpus = Corpus(tmp_path, "mine", "Mine", False, {})
    evidence = Evidence(read(tmp_path, SMALL), corpus, [], [], [], [], {}, {}, {})
    text = results_page(evidence, judge(claims, evidence), {}, "compare.py")
    said = "The corpus has no test list, so the claims about error rates, 1 of 2, are not tested."
    assert said in text.splitlines()


def finish(place: Workplace, run: Run) -> Path:
    """The folder of a run as its training leaves it."""
    Record(status=FINISHED).write(place.record_path(run))
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
    place = Workplace(read(tmp_path, SMALL), tmp_path, Path("recipe"), tmp_path)
    runs = place.plan.runs(1)
    folders = [finish(place, run) for run in runs]
    trained, missing = finished_runs(place, runs, [])
    assert len(trained) == 3 and not missing
    damage(folders[0] / file)
    trained, missing = finished_runs(place, runs, [])
    why = "files are gone or damaged: remove its folder, run again"
    assert len(trained) == 2 and missing == [Missing(runs[0], WAITING, why, "")]


@pytest.mark.parametrize("content", ["", "[]", '{"unknown": 1}'])
def test_a_damaged_record_is_that_of_a_run_not_begun(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert Record.read(tmp_path / "x.json") == Record()
