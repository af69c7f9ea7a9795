"""The speed of systems side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import benchmark
import pytest

from tests.recipe.experiments import make_experiment


def run_benchmark(*arguments: str | int | float | Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
        with benchmark.friendly_exit():
            benchmark.main()


def test_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = make_experiment(tmp_path / "teacher", "teacher")
    student = make_experiment(tmp_path / "v2")
    out = tmp_path / "results" / "speed.json"
    run_benchmark(
        teacher, student, "--out", out, "--rounds", 3, "--batch", 2, "--device", "cpu"
    )
    figures = json.loads(out.read_text())
    assert figures["device"] == "cpu" and figures["threads"] >= 1
    assert (figures["batch"], figures["seconds_of_speech"], figures["rounds"]) == (2, 2.0, 3)
    assert [system["name"] for system in figures["systems"]] == ["teacher", "v2"]
    assert figures["systems"][0]["relative"] == 1
    for system in figures["systems"]:
        slowest, fastest = system["spread"]
        assert 0 < slowest <= system["utterances_per_second"] <= fastest
        assert system["from_waveform"]["utterances_per_second"] > 0
        assert system["parameters"] > 0 and system["macs_per_utterance"] > 0
    assert "v2" in capsys.readouterr().out


def test_faults_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = make_experiment(tmp_path / "v2")
    faults: list[tuple[list[str | int | float | Path], str]] = [
        ([tmp_path / "nowhere"], "does not exist"),
        ([student, "--rounds", 0], "--rounds 0"),
        ([student, "--seconds_of_speech", 0.01], "too short"),
    ]
    for arguments, words in faults:
        with pytest.raises(SystemExit) as stop:
            run_benchmark(*arguments, "--out", tmp_path / "speed.json")
        assert stop.value.code == 1 and words in capsys.readouterr().err
