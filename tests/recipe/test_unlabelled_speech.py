"""Speech without labels: how it is mirrored, listed and held out."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from local import prepare_manifests
from speechbrain_ext.corpora.corpus import Corpus
from speechbrain_ext.corpora.maker import find_corpus, make_corpus
from tests.recipe.test_prepare_manifests import contents, rows, speech, tree, write_list
from tests.recipe.tiny import RECIPE
from tests.refusals import refused

MANIFESTS = str(RECIPE / "hparams" / "manifests.yaml")


def mirror(out: Path, *arguments: object, corpus: str = "own") -> None:
    make_corpus(find_corpus(corpus), [*map(str, ["--out", out, "--jobs", 2, *arguments])])


def stage_1(corpus: Path, *arguments: object) -> dict[str, Any]:
    words = ["--corpus_dir", corpus, "--jobs", 1, *arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_manifests, "friendly_exit", contextlib.nullcontext)
        prepare_manifests.main([MANIFESTS, *map(str, words)])
    return json.loads((corpus / "manifests" / "manifest.json").read_text())


def files(folder: Path, count: int, seconds: float = 1.0) -> Path:
    for number in range(count):
        speech(folder / f"{number:02}.wav", seconds)
    return folder


# Stage 0


def test_any_tree_becomes_a_mirror_that_follows_it(tmp_path: Path) -> None:
    """Loose files, any depth, any format, names that no list can hold."""
    source, out = tmp_path / "calls", tmp_path / "data" / "calls"
    for name, rate in {
        "loose.wav": 16000,
        "on monday/at 9/$5 call%.wav": 16000,
        "a/b/c/d/e.flac": 8000,
        "back\\slash.wav": 44100,
    }.items():
        speech(source / name, rate=rate)
    (source / "notes.txt").touch()
    mirror(out, "--unlabelled", source)
    assert not (out / "dev").exists()
    found = {str(path.relative_to(out / "unlabelled")) for path in audio(out)}
    names = {"loose.wav", "on%20monday/at%209/%245%20call%25.wav", "a/b/c/d/e.flac"}
    assert {name.partition("/")[2] for name in found} == {*names, "back%5Cslash.flac"}
    assert all(soundfile.info(path).samplerate == 16000 for path in audio(out))
    (loose,) = (path for path in audio(out) if path.name == "loose.wav")
    assert loose.is_symlink() and loose.resolve() == source / "loose.wav"
    before = {path: path.lstat().st_mtime_ns for path in audio(out)}
    (source / "loose.wav").unlink()
    speech(source / "new.wav")
    mirror(out, "--unlabelled", source)
    after = {path: path.lstat().st_mtime_ns for path in audio(out)}
    assert {path.name for path in after.keys() ^ before.keys()} == {"loose.wav", "new.wav"}
    assert all(after[path] == before[path] for path in after.keys() & before.keys())


def audio(out: Path) -> list[Path]:
    return [path for path in (out / "unlabelled").rglob("*.*") if ".source" not in str(path)]


def test_stands_beside_any_corpus_and_is_not_forgotten(tmp_path: Path) -> None:
    """What an earlier run was given, and this is not, would be trained on all the same."""
    calls, labelled = files(tmp_path / "calls", 2), tree(tmp_path / "speech", 2)
    out = tmp_path / "data"
    mirror(out, "--data", labelled, "--unlabelled", calls)
    assert len(audio(out)) == 2 and (out / "dev" / "spk00").exists()
    with refused("other-settings", out / "unlabelled", calls, "--unlabelled", "--out"):
        mirror(out, "--data", labelled)
    with refused("other-settings", out / "dev", labelled, "--data"):
        mirror(out, "--unlabelled", calls)
    with refused("other-settings", out / "unlabelled", calls):
        mirror(out, "--data", labelled, "--unlabelled", files(tmp_path / "others", 1))


def test_what_cannot_be_mirrored_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "data"
    with refused("bad-command", "--data", "--unlabelled"):
        mirror(out)
    with refused("missing-folder", tmp_path / "nowhere"):
        mirror(out, "--unlabelled", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with refused("no-audio", tmp_path / "empty"):
        mirror(out, "--unlabelled", tmp_path / "empty")
    with refused("bad-option", "one inside the other"):
        mirror(files(tmp_path / "calls", 1) / "data", "--unlabelled", tmp_path / "calls")


# Stage 1


def test_files_are_listed_and_some_are_held_out_in_halves(tmp_path: Path) -> None:
    calls = files(tmp_path / "calls", 8)
    speech(calls / "deep" / "er" / "9.wav", 1.0)
    manifest = stage_1(tmp_path, "--unlabelled", calls, "--valid_files", 3)
    train, valid = rows(tmp_path, "train"), rows(tmp_path, "valid")
    assert len(train) == 6 and {row["spk_id"] for row in train} == {""}
    assert {"/" in row["ID"] for row in train} == {False}  # as in no labelled utterance's
    names = {row["ID"] for row in train} | {row["spk_id"] for row in valid}
    assert names == {*(f"{n:02}" for n in range(8)), "deep%2Fer%2F9"}
    assert len(valid) == 6 and len({row["wav"] for row in valid}) == 3
    for first, second in zip(valid[::2], valid[1::2], strict=True):
        assert (first["ID"], second["ID"]) == (f"{first['spk_id']}/1", f"{first['spk_id']}/2")
        ends = [first["start"], first["stop"], second["start"], second["stop"]]
        assert ends == ["0", "8000", "8000", "16000"] and first["duration"] == "0.5000"
    lines = (tmp_path / "manifests/trials/valid.txt").read_text().splitlines()
    trials = [line.split() for line in lines]
    assert len(trials) == 15 and sum(label == "1" for label, *_ in trials) == 3
    for label, one, other in trials:
        assert (label == "1") == (one.split("/")[0] == other.split("/")[0])
    assert manifest["train"] == {"utterances": 6, "speakers": 0, "hours": 0.0017, "unlabelled": 6}
    assert "halves" in manifest["trials"][0]["title"]
    # Every file stands for a speaker, so that intervals can be had of them.
    corpus = Corpus.read(tmp_path / "manifests")
    assert len(set(corpus.trials(corpus.lists["valid"])[1])) == 3
    before = contents(tmp_path / "manifests")
    stage_1(tmp_path, "--unlabelled", calls, "--valid_files", 3)
    assert contents(tmp_path / "manifests") == before
    speech(calls / "new.wav", 1.0)
    assert stage_1(tmp_path, "--unlabelled", calls, "--valid_files", 3)["train"]["unlabelled"] == 7


def test_of_a_long_file_the_middle_is_heard(tmp_path: Path) -> None:
    speech(tmp_path / "calls" / "long.wav", 100.0)
    files(tmp_path / "calls", 4, seconds=100.0)
    stage_1(tmp_path, "--unlabelled", tmp_path / "calls", "--valid_files", 2)
    for first, second in zip(*[iter(rows(tmp_path, "valid"))] * 2, strict=True):
        assert (first["start"], first["stop"]) == (str(20 * 16000), str(50 * 16000))
        assert (second["start"], second["stop"]) == (str(50 * 16000), str(80 * 16000))


def test_halves_that_are_silent_or_short_are_not_held_out(tmp_path: Path) -> None:
    calls = files(tmp_path / "calls", 3)
    for number in range(4):
        noise = np.r_[np.random.default_rng(number).uniform(-0.1, 0.1, 8000), np.zeros(8000)]
        soundfile.write(calls / f"quiet{number}.wav", noise, 16000)
        speech(calls / f"short{number}.wav", 0.5)
    stage_1(tmp_path, "--unlabelled", calls, "--valid_files", 3)
    assert {row["spk_id"] for row in rows(tmp_path, "valid")} == {"00", "01", "02"}
    with refused("few-files", "valid_files is 4", "3 of 11", "--valid_files"):
        stage_1(tmp_path, "--unlabelled", calls, "--valid_files", 4)


def test_with_labels_all_of_it_is_trained_on(tmp_path: Path) -> None:
    labelled, calls = tree(tmp_path / "speech", 5), files(tmp_path / "calls", 3)
    tree(calls, 1)  # of a name that a labelled speaker has, too
    sources = ["--train", labelled, "--unlabelled", calls]
    manifest = stage_1(tmp_path, *sources, "--valid_speakers", 2)
    train = rows(tmp_path, "train")
    assert manifest["train"]["unlabelled"] == 7 and manifest["train"]["speakers"] == 3
    assert [row["spk_id"] == "" for row in train] == [False] * 12 + [True] * 7
    assert len({row["ID"] for row in train}) == 19
    assert "unlabelled" not in manifest["valid"] and manifest["valid"]["speakers"] == 2


def test_what_cannot_be_held_out_or_kept_apart_is_one_sentence(tmp_path: Path) -> None:
    calls, labelled = files(tmp_path / "calls", 3), tree(tmp_path / "speech", 5)
    with refused("bad-command", "--train", "--unlabelled"):
        stage_1(tmp_path)
    with refused("few-files", "3 unlabelled files", "4"):
        stage_1(tmp_path, "--unlabelled", calls)
    files(calls, 9)
    with refused("few-files", "valid_files is 100", "9 unlabelled files", "--valid_files"):
        stage_1(tmp_path, "--unlabelled", calls)
    with refused("missing-folder", tmp_path / "nowhere"):
        stage_1(tmp_path, "--unlabelled", tmp_path / "nowhere")
    with refused("bad-setting", "valid_files is 1"):
        stage_1(tmp_path, "--unlabelled", calls, "--valid_files", 1)
    with refused("repeated-name", labelled / "spk00", labelled):
        stage_1(tmp_path, "--train", labelled, "--unlabelled", labelled / "spk00")
    names = write_list(tmp_path / "names", "spk00")
    with refused("bad-command", "--exclude_speakers", "--train"):
        stage_1(tmp_path, "--unlabelled", calls, "--exclude_speakers", names)
    with refused("bad-command", "--speaker_groups", "--train"):
        stage_1(tmp_path, "--unlabelled", calls, "--speaker_groups", names)
    trials = write_list(tmp_path / "t.txt", "1 spk00/s0/00000 spk00/s1/00000",
                        "0 spk00/s0/00000 spk01/s0/00000")  # fmt: skip
    test = ["--trials", trials, "--trials_root", labelled, "--valid_files", 2]
    test += ["--min_seconds", 0.2]  # of half a file
    with refused("speaker-overlap", labelled, "--allow_overlap"):
        stage_1(tmp_path, "--unlabelled", labelled, *test)
    stage_1(tmp_path, "--unlabelled", labelled, *test, "--allow_overlap")
    mirrored = tmp_path / "unlabelled"  # of the whole, which the test's part is in
    mirrored.mkdir()
    (mirrored / ".source").write_text(f"{tmp_path}\n")
    files(mirrored, 9)
    with refused("speaker-overlap", tmp_path, labelled):
        stage_1(tmp_path, "--unlabelled", mirrored, *test)
    (silent := tmp_path / "silent").mkdir()
    soundfile.write(silent / "a.wav", np.zeros(16000), 16000)
    with refused("unusable-audio", silent, "1 silent"):
        stage_1(tmp_path, "--train", labelled, "--unlabelled", silent, "--valid_speakers", 2)
