"""The speed of systems side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import benchmark
import pytest
from ruamel.yaml import YAML

from tests.recipe.experiments import make_experiment

Argument = str | int | float | Path


def run_benchmark(*arguments: Argument) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["benchmark.py", *map(str, arguments)])
        with benchmark.friendly_exit():
            benchmark.main()


def test_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = make_experiment(tmp_path / "teacher", "teacher")
    student = make_experiment(tmp_path / "v2")
    out = tmp_path / "results" / "speed.json"
    run_benchmark(teacher, student, "--out", out, "--rounds", 3, "--batch", 2, "--device", "cpu")
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


def test_nothing_is_cut_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folders = [make_experiment(tmp_path / f"{'long_' * 20}{number}") for number in range(2)]
    options: list[Argument] = ["--out", tmp_path / "speed.json", "--rounds", 1, "--batch", 1]
    run_benchmark(*folders, *options, "--device", "cpu", "--lengths", 0.5, 1)
    said = capsys.readouterr().out
    figures = json.loads((tmp_path / "speed.json").read_text())
    second = figures["systems"][1]
    whole = f"{second['from_waveform']['utterances_per_second']:.1f}"
    row = next(line for line in said.splitlines() if str(folders[1]) in line)
    assert f"{second['parameters']:,}" in row and whole in row and "…" not in said


def test_what_was_measured_is_written_before_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that is gone costs no figures."""

    def closed(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(benchmark, "print_table", closed)
    out = tmp_path / "speed.json"
    options: list[Argument] = ["--out", out, "--rounds", 1, "--batch", 1, "--device", "cpu"]
    options += ["--lengths", 0.5]
    with pytest.raises(SystemExit):
        run_benchmark(make_experiment(tmp_path / "v2"), *options)
    assert json.loads(out.read_text())["by_length"]["lengths"] == [0.5]


def test_faults_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = make_experiment(tmp_path / "v2")
    faults: list[tuple[list[Argument], str]] = [
        ([tmp_path / "nowhere"], "does not exist"),
        ([student, "--rounds", 0], "--rounds 0"),
        ([student, "--lengths", "nan"], "--lengths nan"),
        ([student, "--lengths", "0.09999999"], "--lengths 0.09999999"),
        ([student, "--device", "gpu"], "--device gpu cannot be used"),
        ([student, "--seconds_of_speech", 0.01], "--seconds_of_speech 0.01"),
    ]
    for arguments, words in faults:
        with pytest.raises(SystemExit) as stop:
            run_benchmark(*arguments, "--out", tmp_path / "speed.json")
        assert stop.value.code == 1 and words in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_benchmark(student, "--out", tmp_path)
    assert f"--out {tmp_path} is a folder" in capsys.readouterr().err


def ssl_experiment(folder: Path, teacher: str) -> Path:
    """A student whose YAML names its teacher by its source, as those of hparams/ssl do."""
    student = make_experiment(folder)
    yaml, path = YAML(), student / "hyperparams.yaml"
    tree = yaml.load(path.read_text())
    tree["teacher_source"] = "/models/tiny"
    tree["teacher"] = yaml.load(teacher)["teacher"]
    with open(path, "w") as file:
        yaml.dump(tree, file)
    return student


TEACHER = """teacher: !new:speechbrain_ext.distill.teacher.FrozenTeacher
    encoder: !new:speechbrain_ext.lobes.encoders.SpeakerEncoder
        compute_features: !new:speechbrain_ext.lobes.features.LogMel
        mean_var_norm: !new:speechbrain_ext.nnet.normalization.UtteranceNorm
        embedding_model: !new:speechbrain_ext.lobes.mixer.MLPMixer
            channels: 16
            num_blocks: 3
"""


def test_a_teacher_that_is_no_experiment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It comes first, by its name; where it cannot be loaded, the student is measured alone."""
    out = tmp_path / "speed.json"
    options: list[Argument] = ["--out", out, "--rounds", 1, "--batch", 2, "--device", "cpu"]
    options += ["--with_teacher"]
    student = ssl_experiment(tmp_path / "v2", TEACHER)
    run_benchmark(student, *options)
    assert [system["name"] for system in json.loads(out.read_text())["systems"]] == ["tiny", "v2"]
    broken = TEACHER.replace("num_blocks: 3", "num_blocks: 0.5")
    run_benchmark(ssl_experiment(tmp_path / "other", broken), *options)
    assert [system["name"] for system in json.loads(out.read_text())["systems"]] == ["v2"]
    said = capsys.readouterr().out
    assert "Measured without the teacher: the teacher tiny cannot be loaded here (" in said
    run_benchmark(make_experiment(tmp_path / "mel"), *options)
    assert "has no teacher_source" in capsys.readouterr().out


def test_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Time and operations by length, in the file, in the terminal and in a plot."""
    student = make_experiment(tmp_path / "v2")
    out = tmp_path / "results" / "speed.json"
    options: list[Argument] = ["--out", out, "--rounds", 1, "--batch", 1, "--device", "cpu"]
    run_benchmark(student, *options, "--lengths", 2, 0.5)
    figures = json.loads(out.read_text())["by_length"]
    assert figures["lengths"] == [0.5, 2.0]
    (system,) = figures["systems"]
    assert system["name"] == "v2" and len(system["seconds"]) == len(system["spread"]) == 2
    assert system["macs"][1] / system["macs"][0] == pytest.approx(201 / 51, rel=0.03)
    said = capsys.readouterr().out
    assert "GMACs an utterance" in said and "in proportion: 4" in " ".join(said.split())
    assert (tmp_path / "results" / "time_by_length.png").is_file()
    with pytest.raises(SystemExit):
        run_benchmark(student, *options, "--lengths", 0.01)
    assert "--lengths 0.01" in capsys.readouterr().err


def test_engines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every system in each engine, in each place, with its own weights or a YAML's."""
    pytest.importorskip("onnxruntime")
    teacher, out = make_experiment(tmp_path / "teacher", "teacher"), tmp_path / "speed.json"
    small = tmp_path / "small.yaml"
    lines = [f"!include:{benchmark.__file__.rpartition('/')[0]}/hparams/v5_quarter.yaml"]
    lines += ["system: small", "corpus_dir: data/mini", "channels: 16", "num_blocks: 1"]
    small.write_text("\n".join(lines) + "\n")
    options: list[Argument] = ["--out", out, "--rounds", 2, "--device", "cpu", "--threads", 1]
    options += ["--batch", 2, 1, "--seconds_of_speech", 0.5]
    run_benchmark(teacher, small, *options, "--engines", "eager", "onnx", "int8")
    figures = json.loads(out.read_text())
    assert [system["name"] for system in figures["systems"]] == ["teacher", "small"]
    rows = figures["engines"]
    found = [(r["batch"], r["system"], r["engine"], r["input"]) for r in rows]
    assert found == [
        (batch, system, engine, given)
        for batch in (2, 1)
        for system in ("teacher", "small")
        for engine in ("eager", "onnx", "int8")
        for given in ("features", "waveform")
    ]
    for row in rows:
        assert row["threads"] == 1 and row["seconds_of_speech"] == 0.5
        assert 0 < row["median"] <= row["p95"]
        assert row["utterances_per_second"] == pytest.approx(row["batch"] / row["median"])
        assert row["real_time_factor"] == pytest.approx(row["median"] / row["batch"] / 0.5)
        if row["input"] == "features":
            assert row["share_of_ceiling"] > 0 and row["peak_mb"] is None
        else:
            assert row["share_of_ceiling"] is None and row["peak_mb"] > 0
        if row["system"] == "teacher" and row["engine"] == "eager":
            assert row["relative"] == 1
    said = capsys.readouterr().out
    assert "int8" in said and "of ceiling" in said
    assert all((tmp_path / f"time_by_engine.{kind}").stat().st_size for kind in ("png", "svg"))


def test_engines_need_what_they_are_compared_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_benchmark(tmp_path, "--out", tmp_path / "x.json", "--engines", "onnx")
    assert "--engines onnx" in capsys.readouterr().err
