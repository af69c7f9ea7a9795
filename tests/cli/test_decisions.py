"""``spk verify`` and galleries: answers, exit statuses, faults."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from speechbrain_ext.service_limits import ServiceLimits
from tests.cli.conftest import Spk
from tests.processes import ROOT, environment
from tests.runtime.models import make_model


def test_verify_ends_with_its_answer(spk: Spk, voices: Path) -> None:
    same = spk("verify", voices / "0_0.wav", voices / "0_1.wav")
    assert same.status == 0 and "one speaker" in same.out
    assert "cosine" in same.out and "0.700" in same.out and "1 %" in same.out
    assert "log-likelihood ratio" in same.out and "speech: " in same.out
    other = spk("verify", voices / "0_0.wav", voices / "1_0.wav", "--false-alarm", "0.0001")
    assert other.status == 1 and "two speakers" in other.out and "few false alarms" in other.out
    missing = spk("verify", voices / "0_0.wav", voices / "none.wav")
    assert missing.status == 2 and "none.wav" in missing.err and "Traceback" not in missing.err
    assert spk("verify", voices / "0_0.wav").status == 2
    folder = spk("verify", voices / "0_0.wav", voices)
    assert folder.status == 2 and "no file, but a folder" in folder.err
    rate = spk("verify", voices / "0_0.wav", voices / "0_1.wav", "--false-alarm", "0.5")
    assert rate.status == 2 and "0.01 or 0.001 or 0.0001" in rate.err


def test_verify_by_prior_and_by_threshold_in_json(spk: Spk, voices: Path) -> None:
    pair = voices / "0_0.wav", voices / "0_1.wav"
    found = spk("verify", *pair, "--p-target", "0.001", "--c-fa", "10", "--json")
    facts = found.json
    assert facts["scale"] == "log-likelihood ratio" and facts["threshold"] > 9
    assert found.status == int(not facts["same"]) and "c_fa 10" in facts["operating_point"]
    strict = spk("verify", *pair, "--threshold", "1.1", "--json")
    assert strict.status == 1 and strict.json["operating_point"] == "given"
    shown = spk("verify", *pair, "--p-target", "0.001")
    assert "log-likelihood ratio" in shown.out and "cosine" in shown.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--threshold", "nan"], "--threshold"),
        (["--threshold", "inf"], "--threshold"),
        (["--threshold", "high"], "--threshold"),
        (["--c-fa", "10"], "p_target"),
        (["--p-target", "0.1", "--threshold", "0.5"], "threshold"),
        (["--threads", "100000"], "--threads"),
    ],
)
def test_nothing_that_is_given_is_passed_over(
    spk: Spk, voices: Path, words: list[str], said: str
) -> None:
    done = spk("verify", voices / "0_0.wav", voices / "0_1.wav", *words)
    assert (done.status, done.out) == (2, "") and said in done.err


def test_audio_on_standard_input(spk: Spk, voices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    give((voices / "0_0.wav").read_bytes())
    assert spk("verify", "-", voices / "0_1.wav").status == 0
    give(b"no sound")
    fault = spk("verify", voices / "0_1.wav", "-")
    assert fault.status == 2 and "standard input cannot be used" in fault.err
    give((voices / "0_0.wav").read_bytes())
    assert len(spk("embed", "-", "--json").json) == 16
    both = spk("verify", "-", "-")  # would be the same recording twice
    assert both.status == 2 and "once" in both.err
    monkeypatch.setattr(sys, "stdin", None)
    closed = spk("verify", "-", voices / "0_1.wav")
    assert closed.status == 2 and "is closed" in closed.err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_no_answer(voices: Path, model_folder: Path, unbuffered: str) -> None:
    """``spk verify … | true`` ends with 2: 1 would say that there are two speakers."""
    reader, writer = os.pipe()
    os.close(reader)
    words = ["verify", voices / "0_0.wav", voices / "0_1.wav", "--model", model_folder]
    with open(writer, "wb") as closed:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from speechbrain_ext.cli.main import main; main()",
                *map(str, words),
            ],
            stdout=closed,
            stderr=subprocess.PIPE,
            env={**environment(), "PYTHONUNBUFFERED": unbuffered},
            cwd=ROOT,
        )
    assert (done.returncode, done.stderr) == (2, b"")


def test_speakers_of_a_gallery(spk: Spk, voices: Path, tmp_path: Path) -> None:
    team = ("--gallery", tmp_path / "team.gallery")
    for speaker in range(2):
        takes = [voices / f"{speaker}_{take}.wav" for take in range(2)]
        done = spk("enroll", f"speaker [{speaker}]", *takes, *team)
        assert done.status == 0 and "2 recordings" in done.out
    known = spk("identify", voices / "1_2.wav", *team)
    assert known.status == 0 and known.out.startswith("speaker [1]\n")
    assert "up to 2 % of strangers" in known.out and "speaker [0]" in known.out
    stranger = spk("identify", voices / "2_0.wav", *team, "--json")
    assert stranger.status == 1 and stranger.json["name"] is None
    assert len(stranger.json["ranked"]) == 2 and stranger.json["scale"] == "cosine"
    names = [each["name"] for each in spk("list", *team, "--json").json]
    assert names == ["speaker [0]", "speaker [1]"] and names[0] in spk("list", *team).out
    assert spk("remove", "speaker [0]", *team).status == 0
    again = spk("remove", "speaker [0]", *team)
    assert again.status == 2 and "speaker [0]" in again.err
    assert [each["name"] for each in spk("list", *team, "--json").json] == ["speaker [1]"]


def test_a_list_of_speakers(spk: Spk, voices: Path, tmp_path: Path) -> None:
    """Lines of one name add up; who cannot be enrolled is told, and the others are."""
    listed = tmp_path / "speakers.txt"
    (voices / "bad.wav").write_text("no sound")
    lines = [f"ann {voices}/0_0.wav", f"ann {voices}/0_1.wav", f"ben {voices}/bad.wav"]
    listed.write_text("\n".join([*lines, f"eve {voices}/1_0.wav"]))
    team = ("--gallery", tmp_path / "team.gallery")
    done = spk("enroll", "--speaker-file", listed, *team, "--json")
    assert done.status == 1 and "ben" in done.err
    enrolled = [(each["name"], each["recordings"]) for each in done.json["enrolled"]]
    assert enrolled == [("ann", 2), ("eve", 1)]
    assert [each["path"] for each in done.json["failures"]] == ["ben"]
    assert "bad.wav" in (tmp_path / "team.failures.tsv").read_text()
    listed.write_text("ann\n")
    assert "speakers.txt:1" in spk("enroll", "--speaker-file", listed, *team).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["enroll"], "--speaker-file"),
        (["enroll", "ann"], "no recording"),
        (["enroll", "ann", "{voices}/0_0.wav", "--least-speech", "60"], "s more"),
        (["enroll", "a\nb", "{voices}/0_0.wav"], "no name of a speaker"),
        (["enroll", "ann", "{voices}/0_0.wav", "--least-speech", "nan"], "--least-speech"),
        (["enroll", "ann", "-", "-"], "once"),
        (["list"], "no gallery"),
        (["identify", "{voices}/0_0.wav"], "enrol somebody first"),
        (["identify", "{voices}/0_0.wav", "--top", "0"], "top 0"),
    ],
)
def test_mistakes_with_galleries(
    spk: Spk, voices: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    given = [word.format(voices=voices) for word in words]
    done = spk(*given, "--gallery", tmp_path / "team.gallery")
    assert done.status == 2 and said in done.err and not (tmp_path / "team.gallery").exists()


def test_another_models_gallery(spk: Spk, voices: Path, tmp_path: Path) -> None:
    team = ("--gallery", tmp_path / "team.gallery")
    spk("enroll", "ann", voices / "0_0.wav", *team)
    other = make_model(tmp_path / "other", seed=1)
    done = spk("identify", voices / "0_0.wav", *team, "--model", other)
    assert done.status == 2 and "another model" in done.err


def test_a_teacher_enrols(spk: Spk, voices: Path, tmp_path: Path) -> None:
    teacher = make_model(tmp_path / "teacher", seed=1, weights_sha256="1")
    student = make_model(tmp_path / "student", seed=2, taught_by="1")
    both = ("--gallery", tmp_path / "team.gallery", "--model", student)
    assert spk("enroll", "ann", voices / "0_0.wav", *both, "--with", teacher).status == 0
    assert spk("identify", voices / "0_1.wav", *both).status == 0


def test_without_a_model(spk: Spk, voices: Path, tmp_path: Path) -> None:
    done = spk("verify", voices / "0_0.wav", voices / "0_1.wav", "--model", tmp_path / "none")
    assert done.status == 2 and str(tmp_path / "none") in done.err


def test_verify_imports_no_pytorch(voices: Path, model_folder: Path) -> None:
    program = (
        "import sys\n"
        "from speechbrain_ext.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'pandas', 'speechbrain', 'matplotlib', 'fastapi'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    words = ["verify", voices / "0_0.wav", voices / "0_1.wav", "--model", model_folder]
    subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], check=True, env=environment(), cwd=ROOT
    )


def test_the_service_gets_the_model_and_the_gallery(
    spk: Spk, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pytest.importorskip("speechbrain_ext.serve.run")
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(run, "run", lambda *words, **_: given.append(words))
    monkeypatch.setattr(run, "demo", lambda *words: given.append(words))
    team = tmp_path / "team.gallery"
    spk("enroll", "ann", voices / "0_0.wav", "--gallery", team)
    words = ["--port", "0", "--gallery", team, "--key", "k" * 16, "--max-seconds", "60"]
    assert spk("serve", *words).status == 0
    assert spk("demo", "--no-browser").status == 0
    (model, host, port, gallery, key, limits), shown = given
    assert limits == replace(ServiceLimits(), seconds=60)
    assert (host, port, key) == ("127.0.0.1", 0, "k" * 16) and gallery.names() == ["ann"]
    assert shown[1:] == (0, None, False) and spk("serve", "--port", "70000").status == 2
