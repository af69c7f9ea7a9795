"""Stage 0's mirror of one's own speech: what is in it, and that it follows what it mirrors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from torch import Tensor

from local import convert_audio
from speechbrain_ext.corpora.mirror import make
from speechbrain_ext.corpora.mirror import speaker as speaker_module
from tests.audio_files import TONE, m4a, names, tree, wav
from tests.refusals import refused


def mirrored(source: Path, mirror: Path, jobs: int = 2, **options: Any) -> list[str]:
    """Run stage 0; nothing of the source is touched. Give what is in the mirror."""
    before = tree(source)
    make.mirror_source(source, mirror, jobs, **options)
    assert tree(source) == before
    return names(mirror)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are converted, as it happens."""
    done = []
    convert = speaker_module._read

    def noted(recording: Any) -> Tensor:
        done.append(os.path.basename(recording.source))
        return convert(recording)

    monkeypatch.setattr(speaker_module, "_read", noted)
    return done


def test_what_is_not_16_khz_mono_wav_or_flac_is_made_so(tmp_path: Path) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "mirror"
    wav(source / "anna/monday/1.wav")
    wav(source / "anna/2.FLAC")  # no session
    as_they_are = ["anna/2.FLAC", "anna/monday/1.wav"]
    assert mirrored(source, mirror) == as_they_are and (mirror / "anna").is_symlink()
    wav(source / "bert/monday/cd.wav", rate=44100)
    wav(source / "bert/monday/stereo.flac", channels=2)
    for ending in ("ogg", "mp3", "aiff", "caf", "au", "w64"):
        wav(source / f"bert/monday/{ending}.{ending}")
    wav(source / "bert/monday/ready.wav")
    soundfile.write(source / "bert/monday/o.opus", TONE, 16000, format="OGG", subtype="OPUS")
    soundfile.write(source / "bert/monday/sphere.sph", TONE, 16000, format="NIST")
    made = ["aiff au caf cd mp3 o ogg ready sphere stereo w64".split()]
    assert mirrored(source, mirror) == [
        *as_they_are,
        *(f"bert/monday/{name}.{'wav' if name == 'ready' else 'flac'}" for name in made[0]),
    ]
    for path in (mirror / "bert/monday").iterdir():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (16000, 1) and info.duration > 0.15
    samples, _ = soundfile.read(mirror / "bert/monday/caf.flac")
    assert np.abs(samples - TONE).max() < 1e-4


def test_a_second_run_follows_what_has_changed(tmp_path: Path, conversions: list[str]) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "mirror"
    for speaker in ("anna", "bert", "carl"):
        for number in range(3):
            wav(source / speaker / "s" / f"{number}.wav", rate=16000 if number else 8000)
    wav(source / "dora/s/0.wav")
    everything = mirrored(source, mirror)
    assert conversions == ["0.wav"] * 3
    stays = (mirror / "anna/s/0.flac").stat().st_mtime_ns
    assert mirrored(source, mirror) == everything and len(conversions) == 3

    (source / "anna/s/1.wav").unlink()  # linked
    (source / "bert/s/0.wav").unlink()  # converted
    (source / "carl").rename(source / "emil")
    wav(source / "dora/s/0.wav", rate=48000)  # linked, and to be converted now
    wav(source / "bert/s/1.wav", channels=2)
    wav(source / "bert/s/2.wav", channels=2)
    now = mirrored(source, mirror)
    assert [n for n in now if n[0] == "a"] == ["anna/s/0.flac", "anna/s/2.wav"]
    assert [n for n in now if n[0] == "b"] == ["bert/s/1.flac", "bert/s/2.flac"]
    assert [n for n in now if n[0] in "cde"] == [
        "dora/s/0.flac", "emil/s/0.flac", "emil/s/1.wav", "emil/s/2.wav"
    ]  # fmt: skip
    assert (mirror / "anna/s/0.flac").stat().st_mtime_ns == stays

    # Replaced by another of the same size, and by a broken one.
    wav(source / "bert/s/1.wav", channels=2, samples=TONE / 3)
    (source / "bert/s/2.wav").write_bytes(b"no audio")
    wav(source / "dora/s/0.wav")
    assert "bert/s/2.flac" not in mirrored(source, mirror)
    assert np.abs(soundfile.read(mirror / "bert/s/1.flac")[0]).max() == pytest.approx(0.1, abs=1e-3)
    assert (mirror / "dora").is_symlink()  # which needs no conversions any more


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it had not finished is not taken for what the record says."""
    source, mirror = tmp_path / "speech", tmp_path / "mirror"
    for speaker in ("anna", "bert"):
        wav(source / speaker / "s/0.wav", rate=8000)
        wav(source / speaker / "s/1.wav", rate=8000)
    mirrored(source, mirror)
    old = (source / "bert/s/1.wav").stat()
    original = (source / "bert/s/1.wav").read_bytes()
    wav(source / "bert/s/1.wav", rate=4000)
    write_record = speaker_module._write_record

    def killed_before_the_record(path: Path, written: Any, record: Any) -> Any:
        if record["made"] != written.get("made") and "bert/s/1.wav" in str(record["made"]):
            raise RuntimeError("killed")
        return write_record(path, written, record)

    monkeypatch.setattr(speaker_module, "_write_record", killed_before_the_record)
    with pytest.raises(RuntimeError, match="killed"):
        make.mirror_source(source, mirror, 1)
    monkeypatch.undo()
    (source / "bert/s/1.wav").write_bytes(original)
    os.utime(source / "bert/s/1.wav", ns=(old.st_atime_ns, old.st_mtime_ns))
    (mirror / "anna/s/.0.123.flac").write_bytes(b"half")
    mirrored(source, mirror)
    assert soundfile.info(mirror / "bert/s/1.flac").frames == 16000
    assert not (mirror / "anna/s/.0.123.flac").exists()


def test_nothing_of_the_source_is_removed_through_a_link(tmp_path: Path) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "mirror"
    wav(source / "anna/s/1.wav", rate=8000)
    wav(source / "anna/t/1.wav")
    mirrored(source, mirror)
    # Links into the source where the mirror had folders, as somebody might put them.
    shutil.rmtree(mirror / "anna/s")
    (mirror / "anna/s").symlink_to(source / "anna/s")
    (mirror / "anna/u").symlink_to(source / "anna/t")
    (mirror / "other").symlink_to(source)
    assert mirrored(source, mirror) == ["anna/s/1.flac", "anna/t/1.wav"]
    assert not (mirror / "anna/s").is_symlink()
    shutil.rmtree(mirror / "anna")
    (mirror / "anna").symlink_to(source / "anna")
    assert mirrored(source, mirror) == ["anna/s/1.flac", "anna/t/1.wav"]


@pytest.mark.parametrize("target", ["loop", "..", "../..", "../bert", "nowhere"])
def test_links_that_lead_nowhere_or_back(
    tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "mirror"
    wav(source / "anna/s/1.wav", rate=8000)
    wav(source / "bert/s/1.wav")
    (source / "anna/s/loop").symlink_to(target)
    (source / "all").symlink_to(".")
    (source / "self").symlink_to("self")
    (source / "anna/s/2.wav").symlink_to("2.wav")
    before = tree(source)
    convert_audio.main(["--src", str(source), "--dst", str(mirror), "--jobs", "1"])
    assert tree(source) == before
    found = [name for name in names(mirror / "anna") if "loop" not in name]
    assert found == ["s/1.flac", "s/2.wav"]  # the broken one for stage 1, which tells why
    broken = 2 if target in ("loop", "nowhere", "../bert") else 1
    assert f"{broken} broken link" in capsys.readouterr().out
    assert not (mirror / "all").exists()


def test_other_files_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "speech"
    wav(source / "anna/s/1.wav")
    for name in ("anna/s/1.txt", "anna/s/2.txt", "anna/s/1.xyz", "README", "anna/.hidden"):
        (source / name).touch()
    convert_audio.main(["--src", str(source), "--dst", str(tmp_path / "mirror")])
    said = capsys.readouterr().out
    assert "1 recordings used as they are, 0 converted" in said
    assert "passed over 4 files of no known audio format: 2 .txt, " in said


def test_of_one_utterance_in_several_formats(tmp_path: Path) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "mirror"
    wav(source / "anna/s/1.wav", rate=8000)
    wav(source / "anna/s/1.flac")  # made of the other by somebody before
    wav(source / "anna/s/2.wav", rate=8000)
    (source / "anna/s/2.flac").write_bytes(b"no audio")
    (source / "anna/s/3.mp3").write_bytes(b"no audio")
    wav(source / "anna/s/3.ogg")
    assert mirrored(source, mirror) == ["anna/s/1.flac", "anna/s/2.flac", "anna/s/3.flac"]
    assert (mirror / "anna/s/1.flac").is_symlink()
    assert soundfile.info(mirror / "anna/s/2.flac").frames == 16000


def test_mirror_of_a_tree_with_m4a(tmp_path: Path, ffmpeg: str) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "data" / "speech" / "dev"
    wav(source / "anna/monday/1.wav")
    wav(source / "bert/monday/1.wav")
    m4a(source / "bert/monday/2.m4a", ffmpeg)
    m4a(source / "carl/monday/1.m4a", ffmpeg)
    wav(source / "carl/monday/1.wav")  # converted by somebody before
    mirrored(source, mirror)
    assert (mirror / "anna").is_symlink() and (mirror / "carl").is_symlink()
    assert names(mirror / "bert") == ["monday/1.wav", "monday/2.flac"]
    assert not make.failure_table(mirror).exists()
    # A speaker who was only linked to gets an m4a file: it must not be converted among the
    # originals.
    m4a(source / "anna/monday/2.m4a", ffmpeg)
    mirrored(source, mirror)
    assert names(mirror / "anna") == ["monday/1.wav", "monday/2.flac"]


def test_damaged_files_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "mirror"
    good, bad = wav(source / "anna/monday/1.mp3"), source / "anna/monday/2.mp3"
    bad.write_bytes(b"this is no audio")
    arguments = ["--src", str(source), "--dst", str(mirror)]
    with pytest.raises(SystemExit) as status:
        convert_audio.main([*arguments, "--max_failed", "0.004"])
    assert status.value.code == 1
    told = capsys.readouterr().err
    assert "1 of 2 files could not be converted" in told and "Traceback" not in told
    assert "--max_failed 0.004" in told
    assert names(mirror) == ["anna/monday/1.flac"], (
        "the good one is kept, nothing half-made is left"
    )
    rows = (tmp_path / "mirror_failed.tsv").read_text().splitlines()
    assert rows[0] == "path\tdetail" and len(rows) == 2
    assert rows[1].split("\t")[0] == str(bad) and rows[1].split("\t")[1]

    convert_audio.main([*arguments, "--max_failed", "1"])  # insisting
    assert "1 files cannot be converted" in capsys.readouterr().out
    shutil.copyfile(good, bad)
    convert_audio.main(arguments)
    assert names(mirror) == ["anna/monday/1.flac", "anna/monday/2.flac"]
    assert not (tmp_path / "mirror_failed.tsv").exists()


def test_few_failures_are_tolerated_again_and_again(tmp_path: Path, conversions: list[str]) -> None:
    folder = tmp_path / "speech/anna/monday"
    good = wav(folder / "0.ogg")
    for number in range(1, 19):
        shutil.copyfile(good, folder / f"{number}.ogg")
    (folder / "19.ogg").write_bytes(b"this is no audio")
    for attempts in (20, 21):  # the second time, only the damaged file is left to convert
        outcome = make.mirror_source(tmp_path / "speech", tmp_path / "mirror", jobs=2)
        assert len(outcome.failed) == 1 and len(conversions) == attempts


def test_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    source = tmp_path / "speech"
    wav(source / "anna/monday/1.wav")
    wav(source / "bert/monday/1.ogg", rate=44100)
    mirrored(source, tmp_path / "a")  # not needed for these
    (source / "anna/monday/2.m4a").write_bytes(b"x")
    with refused("missing-program", "2.m4a", "ffmpeg"):
        make.mirror_source(source, tmp_path / "b", jobs=1)


def test_full_disk_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        wav(tmp_path / f"speech/anna/monday/{number}.ogg")
    written = []

    def full(path: Path, content: bytes) -> None:
        written.append(path)
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with refused("unwritable", "No space left on device"):
        make.mirror_source(tmp_path / "speech", tmp_path / "mirror", 1, max_failed=1)
    assert names(tmp_path / "mirror") == [] and len(written) == 1


def test_a_folder_that_cannot_be_listed_is_not_taken_for_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "mirror"
    wav(source / "anna/s/1.ogg")
    before = mirrored(source, mirror)
    listed: Callable[..., Any] = os.scandir

    def refuse(folder: Any) -> Any:
        if os.fspath(folder) == str(source / "anna/s"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with refused("unreadable-file", "anna/s"):
        make.mirror_source(source, mirror, jobs=1)
    monkeypatch.undo()
    assert names(mirror) == before


def test_refused_mirrors(tmp_path: Path) -> None:
    a, b = wav(tmp_path / "a/anna/x/1.wav").parents[2], wav(tmp_path / "b/bert/x/1.wav").parents[2]
    mirror = tmp_path / "mirror"
    mirror_source = make.mirror_source
    mirror_source(a, mirror, jobs=1)
    for source, place, code, *facts in (
        (b, mirror, "other-settings", mirror, a, b),
        (a, a / "mirror", "bad-option", "--dst", "--src", "--data_root of run.sh"),
        (a, tmp_path, "bad-option", "--dst", "--src"),
        (a, b, "foreign-folder", b),
        (a / "anna" / "x", tmp_path / "c", "bad-layout", a / "anna" / "x"),
        (tmp_path / "gone", tmp_path / "c", "missing-folder", tmp_path / "gone"),
    ):
        with refused(str(code), *facts):
            mirror_source(source, place, jobs=1)
    assert names(a) == ["anna/x/1.wav"] and names(b) == ["bert/x/1.wav"]
