"""The report of a student whose teacher is a self-supervised model: no experiment, no scores."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.recipe.report_fixture import make_experiment, write_json, write_report
from tests.recipe.test_report import Page, markdown_table

SOURCE = "microsoft/wavlm-large"
SCORES = ["EER % [95\u00a0%]", "minDCF (0.01)", "minDCF (0.05)"]


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an experiment and its report once."""
    paths = make_experiment(tmp_path_factory.mktemp("experiment"), source=SOURCE)
    log = paths["exp"] / "train_log.jsonl"
    epochs = [json.loads(line) for line in log.read_text().splitlines()]
    for epoch in epochs:
        epoch["train"]["teacher_time"] = 0.41
    log.write_text("".join(f"{json.dumps(epoch)}\n" for epoch in epochs))
    done = write_report(paths, columns=200)
    assert done.returncode == 0, done.stderr
    return paths["exp"]


def test_the_student_alone_beside_the_teachers_speed(exp: Path) -> None:
    heading, teacher, student = markdown_table(exp / "RESULTS.md")
    assert heading[-3:] == SCORES and "Relative speed" in heading
    assert teacher[:2] == [f"teacher ({SOURCE})", "3,873,745"] and teacher[-3:] == ["–"] * 3
    score = json.loads((exp / "results/test.json").read_text())
    assert student[0] == "student (v2)" and student[-3].startswith(f"{score['eer']:.2f} [")
    assert Page(exp / "report.html").results == [heading, teacher, student]
    numbers = json.loads((exp / "results.json").read_text())
    assert [system["role"] for system in numbers["systems"]] == ["teacher", "student"]
    assert numbers["systems"][0]["trials"] == {}
    assert numbers["systems"][0]["parameters"] == 3_873_745
    assert numbers["systems"][1]["trials"]["test"]["eer"] == score["eer"]


def test_it_says_who_taught_and_shows_no_scores_of_his(exp: Path) -> None:
    page, text = Page(exp / "report.html"), (exp / "RESULTS.md").read_text(encoding="utf-8")
    for content in (page.text, text):
        assert f"v2 distilled from {SOURCE}" in content
        assert f"The teacher, {SOURCE}, is taken as it is and has no speaker embedding" in content
        assert not re.search("fusion of both|Fusion runs|mean of\\s+their scores", content)
    assert "| Setting | student |\n| --- | --- |\n" in text
    assert f"| learns from | {SOURCE} |" in text and "| layers of the teacher | 8, 12 |" in text
    assert "| distillation loss | hidden HiddenMSE |" in text
    assert "| weights of terms | hidden 0.5 |" in text
    assert "α" not in text and "factor an epoch" not in text and "is halved | 5 |" in text
    assert "Time spent in the teacher, %" in page.text and "teacher_time" not in page.text
    for words in ("Loss of the teacher", "Scores of the teacher", "Embeddings of the teacher"):
        assert words not in page.text
    # EER, loss, accuracy, share, waiting, teacher; DET, scores, calibration; embeddings.
    assert page.tags.count("svg") == 6 + 3 + 1
    assert "of the teacher’s" in page.text


def test_a_teacher_that_was_not_measured(tmp_path: Path) -> None:
    """Alone, the student is compared with nothing; its teacher is named by its folder."""
    paths = make_experiment(tmp_path, source="/models/wavlm-tiny")
    speed = paths["exp"] / "results/speed.json"
    figures = json.loads(speed.read_text())
    write_json(speed, {**figures, "systems": figures["systems"][1:]})
    done = write_report(paths)
    assert done.returncode == 0, done.stderr
    heading, student = markdown_table(paths["exp"] / "RESULTS.md")
    sizes = ["System", "Parameters", "MACs per utterance", "Utterances/s"]
    assert heading == [*sizes, *SCORES] and student[3] == "148.3"
    text = Page(paths["exp"] / "report.html").text
    assert "v2 distilled from wavlm-tiny" in text and "148.3\n  utterances a second" in text
