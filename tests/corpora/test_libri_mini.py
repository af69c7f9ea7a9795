"""libri_mini, made of a LibriSpeech that was made up."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_ext.corpora import libri_mini
from speechbrain_ext.corpora.libri_mini import Chapter, chapters
from speechbrain_ext.corpora.maker import corpus_command
from speechbrain_ext.corpora.manifest_folder import ManifestSources, make_manifests
from speechbrain_ext.corpora.manifest_settings import ManifestSettings
from tests.audio_files import names, tree

CHAPTERS = [Chapter("dev", str(speaker), f"{speaker}77") for speaker in (19, 26, 103, 8)]
CHAPTERS += [Chapter("test", str(speaker), f"{speaker}5") for speaker in (40, 6019)]
RATE = 16000


def utterance(librispeech: Path, item: Chapter, number: int, seconds: float) -> np.ndarray:
    """Write an utterance of noise where LibriSpeech would have it."""
    rng = np.random.default_rng([int(item.speaker), number])
    samples = rng.integers(-9000, 9000, int(seconds * RATE)).astype(np.int16)
    folder = librispeech / "train-clean-100" / item.speaker / item.chapter
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{item.speaker}-{item.chapter}-{number:04d}.flac"
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return samples


@pytest.fixture
def librispeech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(libri_mini, "chapters", lambda: CHAPTERS)
    root = tmp_path / "LibriSpeech"
    for item in CHAPTERS:
        for number, seconds in enumerate((3.0, 12.5, 15.0)):
            utterance(root, item, number, seconds)
        (root / "train-clean-100" / item.speaker / item.chapter / "a.trans.txt").touch()
    return root


def make(librispeech: Path, out: Path) -> None:
    corpus_command("libri_mini", ["--librispeech", str(librispeech), "--out", str(out)])


def joined(folder: Path) -> np.ndarray:
    parts = [soundfile.read(path, dtype="int16")[0] for path in sorted(folder.glob("*.flac"))]
    assert len({len(part) for part in parts}) == 1, "the parts are of one length"
    return np.concatenate(parts)


def refused(capsys: pytest.CaptureFixture[str], librispeech: Path, out: Path) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as status:
        make(librispeech, out)
    assert status.value.code == 1
    return capsys.readouterr().err


def test_the_committed_chapters() -> None:
    """One of each speaker, and nobody who is trained on is in the trials."""
    parts = {part: [each for each in chapters() if each.part == part] for part in ("dev", "test")}
    assert {part: len(each) for part, each in parts.items()} == {"dev": 211, "test": 40}
    assert len({each.speaker for each in chapters()}) == len(chapters()) == 251


def test_the_first_utterance_of_12_s_is_cut(librispeech: Path, tmp_path: Path) -> None:
    out = tmp_path / "libri_mini"
    assert CHAPTERS[0].folder == "dev/id00019/1977"
    first = utterance(librispeech, CHAPTERS[0], 1, 12.5)
    long = utterance(librispeech, CHAPTERS[4], 1, 14.6)
    short = utterance(librispeech, CHAPTERS[5], 1, 13.0)
    before = tree(librispeech)
    make(librispeech, out)
    assert tree(librispeech) == before
    assert sorted(path.name for path in out.iterdir()) == "corpus.json dev test trials".split()
    assert len(names(out / "dev")) == 4 * 3 and len(names(out / "test")) == 2 * 4
    # The first 12 s in three, the first 14 s in four: sample by sample.
    assert np.array_equal(joined(out / CHAPTERS[0].folder), first[: 12 * RATE])
    assert np.array_equal(joined(out / CHAPTERS[4].folder), long[: 14 * RATE])
    assert np.array_equal(joined(out / CHAPTERS[5].folder), short)
    info = soundfile.info(out / CHAPTERS[0].folder / "00003.flac")
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
    lines = (out / "trials/dev.txt").read_text().splitlines()
    assert len(lines) == 8 * 7 / 2 and sum(line[0] == "1" for line in lines) == 2 * 6
    assert lines[0] == "1 id00040/405/00001.flac id00040/405/00002.flac"
    description = json.loads((out / "corpus.json").read_text())
    assert description["name"] == "libri_mini" and description["synthetic"] is False


def test_a_chapter_without_such_an_utterance_gives_its_longest(
    librispeech: Path, tmp_path: Path
) -> None:
    _, longest, _ = [
        utterance(librispeech, CHAPTERS[2], number, seconds)
        for number, seconds in enumerate((4, 9, 6))
    ]
    make(librispeech, tmp_path / "out")
    assert np.array_equal(joined(tmp_path / "out" / CHAPTERS[2].folder), longest)


@pytest.mark.parametrize("given", [".", "train-clean-100", ".."])
def test_where_librispeech_may_lie(librispeech: Path, tmp_path: Path, given: str) -> None:
    make((librispeech / given).resolve(), tmp_path / "out")
    assert len(names(tmp_path / "out/dev")) == 12


def test_a_second_run_goes_on(librispeech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(librispeech, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    lost = out / CHAPTERS[1].folder / "00002.flac"
    content = lost.read_bytes()
    lost.unlink()
    make(librispeech, out)
    assert lost.read_bytes() == content
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert {path for path in before if before[path] != after[path]} == set(lost.parent.iterdir())


def test_what_is_missing_is_said(
    librispeech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    told = refused(capsys, tmp_path / "nowhere", out)
    assert "there is no folder train-clean-100" in told and libri_mini.HOME in told
    speaker = librispeech / "train-clean-100" / "26"
    speaker.rename(librispeech / "26")
    told = refused(capsys, librispeech, out)
    assert f"1 of 6 chapters are not below {speaker.parent} ({speaker / '2677'})" in told
    (librispeech / "26").rename(speaker)
    assert not out.exists()
    damaged = speaker / "2677" / "26-2677-0000.flac"
    damaged.write_bytes(damaged.read_bytes()[:9000])
    assert f"{damaged} cannot be read" in refused(capsys, librispeech, out)


def test_stage_1_reads_it(librispeech: Path, tmp_path: Path) -> None:
    out = tmp_path / "libri_mini"
    make(librispeech, out)
    sources = ManifestSources([str(out / "dev")], [str(out / "trials/dev.txt")], str(out / "test"))
    manifest, _ = make_manifests(out, sources, ManifestSettings(2, 1234, 10, 0.3, 100, 0), jobs=1)
    with open(out / "manifests/test.csv") as file:
        assert len(list(csv.DictReader(file))) == 8
    assert manifest["corpus"] == "libri_mini"
    assert [entry["name"] for entry in manifest["trials"]] == ["valid", "dev"]
