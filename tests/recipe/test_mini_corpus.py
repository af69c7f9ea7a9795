"""The embedded corpus: whole, the same every time, and never mixed with another."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_ext.corpora import mini
from speechbrain_ext.corpora.maker import corpus_command
from speechbrain_ext.corpora.mini import engine
from speechbrain_ext.corpora.mini.noises import augmentation_files
from speechbrain_ext.corpora.mini.options import MiniOptions, SpeakerTask, speaker_tasks
from speechbrain_ext.corpora.mini.trials import draw_trials
from tests.recipe.killing import run_until
from tests.recipe.tiny import RECIPE
from tests.refusals import refused

pytest.importorskip("espeakng_loader", reason="the extra `mini` is not installed")

SMALL = MiniOptions(train_speakers=3, test_speakers=2, sessions=2, utterances=1, max_seconds=2.5)
ARGUMENTS = (
    "--train_speakers 3 --test_speakers 2 --sessions 2 --utterances 1 --max_seconds 2.5".split()
)
SCRIPT = RECIPE / "local/make_mini_corpus.py"


def digests(corpus: Path) -> dict[str, str]:
    """Hash the samples of every recording, and the trials."""
    result = {
        str(path.relative_to(corpus)): hashlib.sha256(
            soundfile.read(path, dtype="int16")[0].tobytes()
        ).hexdigest()
        for path in sorted(corpus.rglob("*.flac"))
    }
    return {**result, "trials": (corpus / "trials" / "test.txt").read_text()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small corpus by the command, in two processes."""
    out = tmp_path_factory.mktemp("mini") / "data" / "mini"
    corpus_command("mini", ["--out", str(out), *ARGUMENTS, "--jobs", "2"])
    return out


def test_layout(corpus: Path) -> None:
    assert (
        sorted(p.name for p in corpus.iterdir()) == "corpus.json dev noise rir test trials".split()
    )
    assert sorted(p.name for p in (corpus / "dev").iterdir()) == ["id10001", "id10002", "id10003"]
    assert sorted(p.name for p in (corpus / "test").iterdir()) == ["id20001", "id20002"]
    for path in corpus.glob("*/*/*/*.flac"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert 2.0 <= info.duration <= 2.5
        samples, _ = soundfile.read(path)
        assert -30 < 10 * np.log10((samples**2).mean()) < -16, path
    description = json.loads((corpus / "corpus.json").read_text())
    assert description["synthetic"] is True
    assert "synthetic" in description["title"].lower()
    assert description["name"] == "mini"


def test_same_seed_gives_same_samples_whatever_the_jobs(corpus: Path, tmp_path: Path) -> None:
    mini.make_mini_corpus(SMALL, tmp_path / "again", jobs=1)
    again = digests(tmp_path / "again")
    assert again == digests(corpus)
    recordings = [digest for name, digest in again.items() if name.startswith(("dev", "test"))]
    assert len(set(recordings)) == len(recordings) == 10


def test_another_seed_gives_other_samples(tmp_path: Path) -> None:
    from speechbrain_ext.corpora.mini.render import render_speaker

    task = SpeakerTask("dev", 0)
    heard = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        render_speaker(replace(SMALL, seed=seed), task, out / ".partial", out)
        heard.append(soundfile.read(out / "dev" / "id10001" / "s01" / "00001.flac")[0])
    assert len(heard[0]) != len(heard[1]) or not np.array_equal(*heard)


def test_run_again_does_nothing(corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--out", corpus, *ARGUMENTS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "already" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}


def test_other_options_are_refused_by_name(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(corpus)
    with pytest.raises(SystemExit) as exit_status:
        corpus_command("mini", ["--out", str(corpus), *ARGUMENTS, "--seed", "7"])
    assert exit_status.value.code == 1
    message = capsys.readouterr().err
    assert "seed 0, not 7" in message and str(corpus) in message
    assert before == digests(corpus)


def test_killed_run_goes_on(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "killed"
    # Before the second speaker is put in its place.
    run_until(2, out / "dev", SCRIPT, "--out", out, *ARGUMENTS, "--jobs", "1")
    assert not (out / "corpus.json").exists()
    assert len(list(out.glob("dev/*"))) == 1
    for split in ("dev", "test"):
        for speaker in (out / split).glob("*"):
            assert len(list(speaker.glob("*/*.flac"))) == 2, "a speaker's folder is whole or absent"

    with refused("other-settings", out, "utterances 1", "2"):
        mini.make_mini_corpus(replace(SMALL, utterances=2), out, jobs=1)

    finished = {path.name for path in out.glob("dev/*")}
    rendered: list[str] = []
    original = mini._render_speaker

    def count(options: MiniOptions, task: SpeakerTask, folder: Path) -> None:
        rendered.append(task.name)
        original(options, task, folder)

    monkeypatch.setattr(mini, "_render_speaker", count)
    assert mini.make_mini_corpus(SMALL, out, jobs=1)
    assert finished.isdisjoint(rendered)
    assert digests(out) == digests(corpus)
    assert not (out / ".partial").exists()


def test_lost_speaker_is_made_again(corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus, copy)
    shutil.rmtree(copy / "dev" / "id10002")
    assert mini.make_mini_corpus(SMALL, copy, jobs=1)
    assert digests(copy) == digests(corpus)


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "dev" / "precious").mkdir(parents=True)
    with refused("foreign-folder", tmp_path, "dev/"):
        mini.make_mini_corpus(SMALL, tmp_path, jobs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["dev"]


def test_trials_of_the_default_corpus() -> None:
    options = MiniOptions()
    lines = [line.split() for line in draw_trials(options)]
    assert 7000 <= len(lines) <= 8000
    sex = {task.name: task.sex for task in speaker_tasks(options)}
    same_sex = 0
    for label, enrol, test in lines:
        (speaker, session, _), (other, other_session, _) = enrol.split("/"), test.split("/")
        assert speaker.startswith("id2") and other.startswith("id2")
        assert (label == "1") == (speaker == other)
        assert label == "0" or session != other_session
        same_sex += label == "0" and sex[speaker] == sex[other]
    targets = sum(label == "1" for label, _, _ in lines)
    assert targets == 40 * 96
    assert 0.5 < same_sex / (len(lines) - targets) < 0.7
    pairs = {frozenset((enrol, test)) for _, enrol, test in lines}
    assert len(pairs) == len(lines)


def test_trials_name_files_that_exist(corpus: Path) -> None:
    lines = (corpus / "trials" / "test.txt").read_text().splitlines()
    assert {line[0] for line in lines} == {"0", "1"}
    for line in lines:
        for path in line.split()[1:]:
            assert (corpus / "test" / path).is_file()


def test_augmentation(corpus: Path) -> None:
    noises, rooms = list((corpus / "noise").iterdir()), list((corpus / "rir").iterdir())
    assert len(noises) >= 12 and len(rooms) >= 20
    assert {path.name.split("_")[0] for path in noises} == {"white", "pink", "brown", "babble"}
    assert all(soundfile.info(path).duration >= 10 for path in noises)
    for path in rooms:
        samples, _ = soundfile.read(path)
        assert np.abs(samples).argmax() == 0, "the direct sound comes first"
    assert {str(p.relative_to(corpus)) for p in [*noises, *rooms]} == set(augmentation_files(SMALL))


@pytest.mark.parametrize(
    ("wrong", "fact"),
    [
        ({"train_speakers": 1}, "--train_speakers is 1"),
        ({"test_speakers": 0}, "--test_speakers is 0"),
        ({"sessions": 1}, "--sessions is 1"),
        ({"utterances": 0}, "--utterances is 0"),
        ({"min_seconds": 0.1}, "--min_seconds is 0.1"),
        ({"max_seconds": 1.0}, "--max_seconds is 1.0"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_impossible_options(wrong: dict[str, float], fact: str) -> None:
    with refused("bad-option", fact):
        MiniOptions(**wrong)  # type: ignore[arg-type]


def test_missing_engine_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with refused("missing-program", "pip install espeakng-loader"):
        engine.data_folder()
    with refused("missing-program", "musl"):
        mini.make_mini_corpus(SMALL, tmp_path / "none", jobs=2)
