"""Stage 1 run for real on small trees: what it writes, and when it writes nothing."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from local.prepare_manifests import main
from speechbrain_ext import files
from speechbrain_ext.corpora import manifest_folder

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "VoxCeleb" / "distill_mixer"
RATE = 16000


def speech(path: Path, seconds: float = 0.5, rate: int = RATE, level: float = 0.1) -> Path:
    """Write noise as a stand-in for speech."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).standard_normal(int(seconds * rate))
    soundfile.write(path, level * noise.clip(-3, 3) / 3, rate)
    return path


def tree(root: Path, speakers: int, sessions: int = 2, utterances: int = 2, first: int = 0) -> Path:
    """Lay out a corpus of WAV files."""
    for speaker in range(first, first + speakers):
        for session in range(sessions):
            for utterance in range(utterances):
                speech(root / f"spk{speaker:02}" / f"s{session}" / f"{utterance:05}.wav")
    return root


def run(corpus: Path, *arguments: object, valid: int = 2, jobs: int = 1) -> dict:
    """Run the command in this process and give manifest.json."""
    settings = ["--valid_speakers", valid, "--jobs", jobs]
    words = [RECIPE / "hparams" / "manifests.yaml", "--corpus_dir", corpus, *arguments, *settings]
    main([str(word) for word in words])
    return json.loads((corpus / "manifests" / "manifest.json").read_text())


def rows(corpus: Path, name: str) -> list[dict[str, str]]:
    with open(corpus / "manifests" / f"{name}.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def write_list(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training and two test speakers, never altered."""
    root = tmp_path_factory.mktemp("audio")
    tree(root / "train", 6)
    tree(root / "test", 2, first=90)
    write_list(
        root / "t.txt",
        "1 spk90/s0/00000.flac spk90/s1/00001.flac",
        "0 spk90/s0/00000.flac spk91/s1/00001",
    )
    return root


def sources(audio: Path) -> list[object]:
    return ["--train", audio / "train", "--trials", audio / "t.txt", "--trials_root",
            audio / "test"]  # fmt: skip


def test_writes_manifests_and_trials(audio: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    manifest = run(corpus, *sources(audio))
    train, valid, test = (rows(corpus, name) for name in ("train", "valid", "test"))
    assert (len(train), len(valid), len(test)) == (16, 8, 3)
    first = train[0]
    assert list(first) == ["ID", "duration", "wav", "start", "stop", "spk_id"]
    assert first["wav"] == str(audio / "train" / f"{first['ID']}.wav")
    assert first["spk_id"] == first["ID"].split("/")[0]
    assert (float(first["duration"]), first["start"], first["stop"]) == (0.5, "0", "8000")
    speakers = [{row["spk_id"] for row in part} for part in (train, valid)]
    assert len(speakers[1]) == 2 and not speakers[0] & speakers[1]
    assert [row["ID"] for row in train] == sorted(row["ID"] for row in train)

    lists = corpus / "manifests" / "trials"
    assert (lists / "t.txt").read_text().splitlines() == [
        "1 spk90/s0/00000 spk90/s1/00001",
        "0 spk90/s0/00000 spk91/s1/00001",
    ]
    pairs = [line.split() for line in (lists / "valid.txt").read_text().splitlines()]
    assert {name for _, *names in pairs for name in names} == {row["ID"] for row in valid}
    for label, *names in pairs:
        (speaker_a, session_a, _), (speaker_b, session_b, _) = (name.split("/") for name in names)
        assert (label == "1") == (speaker_a == speaker_b)
        assert label == "0" or session_a != session_b

    assert manifest["train"] == {"utterances": 16, "speakers": 4, "hours": round(8 / 3600, 4)}
    assert manifest["test"]["speakers"] == 2
    assert manifest["corpus"] == manifest["title"] == "corpus" and manifest["synthetic"] is False
    assert [(t["name"], t["set"], t["targets"], t["nontargets"]) for t in manifest["trials"]] == [
        ("valid", "valid", 8, 16),
        ("t", "test", 1, 1),
    ]
    assert sum(manifest["skipped"].values()) == manifest["overlap"] == 0


def test_names_in_any_form(audio: Path, tmp_path: Path) -> None:
    """Absolute, Windows's, composed where the disk decomposes, of a mirror or of its source."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / ".source").write_text(f"{audio / 'test'}\n")
    (mirror / "spk90").symlink_to(audio / "test" / "spk90")
    speech(mirror / "Rene\u0301" / "e\u0301" / "1.wav")
    trials = write_list(
        tmp_path / "t.csv",
        "Test,Enrol,Label",
        f"{audio}/test/spk90/s0/00000.wav,{mirror}/spk90/s1/00001.wav,TRUE",
        ".\\spk90\\s0\\00000.flac,Ren\u00e9/\u00e9//1,False",
    )
    manifest = run(
        tmp_path, "--train", audio / "train", "--trials", trials, "--trials_root", mirror
    )
    test = {row["ID"]: row for row in rows(tmp_path, "test")}
    assert list(test) == ["Ren\u00e9/\u00e9/1", "spk90/s0/00000", "spk90/s1/00001"]
    assert test["Ren\u00e9/\u00e9/1"]["spk_id"] == "Ren\u00e9"
    assert Path(test["Ren\u00e9/\u00e9/1"]["wav"]).is_file()
    assert (tmp_path / "manifests" / "trials" / "t.txt").read_text().splitlines() == [
        "1 spk90/s1/00001 spk90/s0/00000",
        "0 Ren\u00e9/\u00e9/1 spk90/s0/00000",
    ]
    assert manifest["test"]["speakers"] == 2


def test_models_of_several_utterances(audio: Path, tmp_path: Path) -> None:
    """A list that names models and one that does not; what is heard is in test.csv."""
    enrol = write_list(
        tmp_path / "enroll.map",
        "m90 spk90/s0/00000.wav spk90/s0/00001.wav",
        "m91 spk91/s0/00000.wav spk91/s1/00000.wav",
        "m92 spk92/s0/00000.wav",
    )
    trials = write_list(
        tmp_path / "models.lst", "m90 spk90/s1/00001.wav 1", "m91 spk90/s1/00001.wav 0"
    )
    options = ["--train", audio / "train", "--trials", audio / "t.txt", trials,
               "--trials_root", audio / "test", "--enrol", enrol]  # fmt: skip
    manifest = run(tmp_path / "c", *options)
    folder = tmp_path / "c" / "manifests"
    entries = {entry["name"]: entry for entry in manifest["trials"]}
    assert entries["t"]["enrolment"] is None
    assert (folder / entries["models"]["enrolment"]).read_text().splitlines() == [
        "m90 spk90/s0/00000 spk90/s0/00001",
        "m91 spk91/s0/00000 spk91/s1/00000",
    ]
    assert {row["ID"] for row in rows(tmp_path / "c", "test")} == {
        *("spk90/s0/00000", "spk90/s0/00001", "spk90/s1/00001"),
        *("spk91/s0/00000", "spk91/s1/00000", "spk91/s1/00001"),
    }
    write_list(enrol, "m90 spk90/s0/00000.wav", "m91 spk91/s0/00000.wav")
    assert run(tmp_path / "c", *options)["fingerprint"] != manifest["fingerprint"]


def test_corpus_json_names_the_corpus(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text('{"name": "m", "title": "M (made)", "synthetic": true}')
    manifest = run(tmp_path, *sources(audio))
    assert (manifest["corpus"], manifest["title"], manifest["synthetic"]) == ("m", "M (made)", True)


def test_without_trials_there_is_no_test_set(audio: Path, tmp_path: Path) -> None:
    """Neither now nor after a call with trials."""
    run(tmp_path, *sources(audio))
    manifest = run(tmp_path, "--train", audio / "train")
    assert not (tmp_path / "manifests" / "test.csv").exists() and "test" not in manifest
    assert [item["name"] for item in manifest["trials"]] == ["valid"]


def test_the_same_whatever_the_number_of_processes(audio: Path, tmp_path: Path) -> None:
    """As a user runs it: from the command line, here with chunks for two processes."""
    one, two = tmp_path / "one" / "c", tmp_path / "two" / "c"
    tree(tmp_path / "more", 3, sessions=5, utterances=20, first=20)
    run(one, *sources(audio), "--train", audio / "train", tmp_path / "more")
    command = [sys.executable, "local/prepare_manifests.py", "hparams/manifests.yaml",
               "--corpus_dir", two, "--valid_speakers", "2", "--jobs", "2", *sources(audio),
               "--train", audio / "train", tmp_path / "more"]  # fmt: skip
    done = subprocess.run(
        [str(word) for word in command],
        cwd=RECIPE,
        env={**os.environ, "PYTHONPATH": str(RECIPE.parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert contents(one / "manifests") == contents(two / "manifests")


def test_validation_prefers_speakers_with_several_sessions(tmp_path: Path) -> None:
    tree(tmp_path / "train", 6, sessions=1, utterances=3)
    tree(tmp_path / "train", 2, sessions=4, utterances=2, first=40)
    run(tmp_path, "--train", tmp_path / "train", "--valid_utterances_per_speaker", 4, valid=3)
    valid = rows(tmp_path, "valid")
    by_speaker = {s: [r["ID"] for r in valid if r["spk_id"] == s] for s in
                  {row["spk_id"] for row in valid}}  # fmt: skip
    assert {"spk40", "spk41"} < set(by_speaker) and len(by_speaker) == 3
    for speaker in ("spk40", "spk41"):  # four utterances, one of each session
        assert len({name.split("/")[1] for name in by_speaker[speaker]}) == 4
        assert len(by_speaker[speaker]) == 4
    assert not {row["spk_id"] for row in rows(tmp_path, "train")} & set(by_speaker)


def test_speakers_without_sessions(tmp_path: Path) -> None:
    """<speaker>/<utterance>: one session, so targets lie within it; beside speakers with some."""
    train = tmp_path / "my speech"
    for speaker in range(5):
        for number in range(3):
            speech(train / f"spk{speaker}" / f"{number}.wav")
    manifest = run(tmp_path, "--train", train)
    assert manifest["train"] == {"utterances": 9, "speakers": 3, "hours": round(4.5 / 3600, 4)}
    assert manifest["trials"][0]["targets"] == 6 and manifest["other_depth"] == 0
    assert rows(tmp_path, "train")[0]["ID"].count("/") == 1
    tree(train, 2, first=20)
    run(tmp_path, "--train", train)
    assert {row["spk_id"] for row in rows(tmp_path, "valid")} == {"spk20", "spk21"}


def test_seed_changes_the_held_out_speakers(audio: Path, tmp_path: Path) -> None:
    drawn = set()
    for seed in range(6):
        run(tmp_path, "--train", audio / "train", "--valid_seed", seed)
        drawn.add(frozenset(row["spk_id"] for row in rows(tmp_path, "valid")))
    assert len(drawn) > 1


def test_excluded_speakers_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named in any table; an entry without effect is told."""
    train = tree(tmp_path / "train", 8, sessions=1)
    names = write_list(
        tmp_path / "names",
        "\ufeffspk00,f,old",
        "# test part",
        "",
        "SPK05\tm\r",
        "/data/dev/spk03/",
        '"spk01"',
        "spk77 Mr. Nobody",
    )
    manifest = run(tmp_path, "--train", train, "--exclude_speakers", names)
    used = {row["spk_id"] for name in ("train", "valid") for row in rows(tmp_path, name)}
    assert used == {"spk02", "spk04", "spk06", "spk07"} and manifest["excluded_speakers"] == 4
    said = capsys.readouterr().out
    assert "warning: 1 entries of --exclude_speakers name nobody below --train: spk77" in said


def test_an_excluded_name_may_hold_a_comma(tmp_path: Path) -> None:
    train = tree(tmp_path / "train", 8, sessions=1)
    (train / "spk00").rename(train / "smith,john")
    names = write_list(tmp_path / "names", "smith,john")
    assert run(tmp_path, "--train", train, "--exclude_speakers", names)["excluded_speakers"] == 1


def test_held_out_speakers_are_compared_within_groups(tmp_path: Path) -> None:
    train = tree(tmp_path / "train", 8, sessions=1)
    groups = {f"spk{number:02}": "ab"[number % 2] for number in range(8)}
    lines = [f"{speaker}\t{group}" for speaker, group in groups.items()]
    names = write_list(tmp_path / "spk2corpus", *lines, "nobody a")
    options: list[object] = ["--train", train, "--speaker_groups", names]
    manifest = run(tmp_path, *options, valid=5)
    valid = manifest["trials"][0]
    assert valid["title"] == "held-out training speakers, within groups"
    listed = (tmp_path / "manifests" / valid["file"]).read_text().splitlines()
    pairs = [[name.split("/")[0] for name in line.split()[1:]] for line in listed]
    assert all(groups[one] == groups[other] for one, other in pairs)
    everything = run(tmp_path, "--train", train, valid=5)["trials"][0]
    assert valid["targets"] == everything["targets"] == 5
    assert 0 < valid["nontargets"] < everything["nontargets"]
    write_list(names, *lines[1:], "spk00 b")
    assert run(tmp_path, *options, valid=5)["fingerprint"] != manifest["fingerprint"]


def test_linked_folders_are_followed(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for speaker in (audio / "train").iterdir():
        (tmp_path / "train" / speaker.name).symlink_to(speaker)
    assert run(tmp_path, "--train", tmp_path / "train")["train"]["utterances"] == 16


def test_again_with_nothing_changed_does_nothing(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, *sources(audio))
    before = (tmp_path / "manifests").stat().st_ino
    capsys.readouterr()
    monkeypatch.setattr(manifest_folder, "_write", lambda *_: pytest.fail("did it again"))
    run(tmp_path, *sources(audio), jobs=2)
    assert "nothing has changed" in capsys.readouterr().out
    assert (tmp_path / "manifests").stat().st_ino == before


@pytest.mark.parametrize(
    "change", ["new", "gone", "touched", "trials", "setting", "option", "corpus", "edited"]
)
def test_anything_changed_does_it_all_again(audio: Path, tmp_path: Path, change: str) -> None:
    train = tree(tmp_path / "train", 5)
    trials = write_list(tmp_path / "t.txt", *(audio / "t.txt").read_text().splitlines())
    corpus = tmp_path / "corpus"
    options: list[object] = ["--train", train, "--trials", trials, "--trials_root", audio / "test"]
    manifest = run(corpus, *options)
    edited = corpus / "manifests" / "train.csv"
    whole = edited.read_text()
    if change == "new":
        speech(train / "spk00" / "s0" / "new.wav")
    elif change == "gone":
        (train / "spk00" / "s0" / "00000.wav").unlink()
    elif change == "touched":
        os.utime(train / "spk00" / "s0" / "00000.wav", ns=(1, 1))
    elif change == "trials":
        write_list(trials, trials.read_text().strip(), "0 spk91/s0/00000 spk90/s1/00001")
    elif change == "setting":
        options += ["--min_seconds", 0.2]
    elif change == "option":
        options += ["--allow_overlap"]
    elif change == "corpus":
        (corpus / "corpus.json").write_text('{"title": "another"}')
    elif change == "edited":
        edited.write_text(whole[:-20])
    inode = (corpus / "manifests").stat().st_ino
    again = run(corpus, *options)
    assert (corpus / "manifests").stat().st_ino != inode
    assert (again["fingerprint"] == manifest["fingerprint"]) == (change == "edited")
    if change == "edited":
        assert edited.read_text() == whole
    if change == "trials":
        assert again["trials"][1]["nontargets"] == 2
    assert sorted(path.name for path in corpus.iterdir() if path.name.startswith(".")) == []


def test_a_failure_leaves_the_earlier_manifests(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, *sources(audio))
    before = contents(tmp_path / "manifests")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest_folder, "write_skipped", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *sources(audio), "--min_seconds", 0.1)
    assert contents(tmp_path / "manifests") == before
    assert [path.name for path in tmp_path.iterdir()] == ["manifests"]


def test_a_run_killed_while_swapping_is_put_right(tmp_path: Path) -> None:
    target = tmp_path / "manifests"
    (tmp_path / ".manifests.old").mkdir()
    (tmp_path / ".manifests.old" / "train.csv").write_text("earlier")
    (tmp_path / ".manifests.new").mkdir()
    files.restore(target)
    assert contents(tmp_path) == {"manifests/train.csv": b"earlier"}
    assert [path.name for path in tmp_path.iterdir()] == ["manifests"]
