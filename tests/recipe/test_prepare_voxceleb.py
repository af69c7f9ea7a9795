"""VoxCeleb as people have it on their disks, and trees with m4a files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from local import convert_audio, prepare_voxceleb
from speechbrain_ext.errors import UserError

TONE = 0.3 * np.sin(np.arange(8000) * 0.2)


@pytest.fixture
def ffmpeg(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have ffmpeg on PATH: the system's, or the one of the package imageio-ffmpeg."""
    found = shutil.which("ffmpeg")
    if found:
        return found
    package = pytest.importorskip("imageio_ffmpeg", reason="there is no ffmpeg")
    folder = tmp_path_factory.mktemp("bin")
    (folder / "ffmpeg").symlink_to(package.get_ffmpeg_exe())
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return str(folder / "ffmpeg")


def wav(path: Path) -> Path:
    """Write half a second of a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, TONE, 16000)
    return path


def m4a(path: Path, ffmpeg: str) -> Path:
    """Write half a second of a tone, in stereo at 44.1 kHz."""
    source = wav(path.with_suffix(".source.wav"))
    command = [ffmpeg, "-loglevel", "error", "-i", str(source)]
    subprocess.run([*command, "-ar", "44100", "-ac", "2", str(path)], check=True)
    source.unlink()
    return path


def voxceleb1(root: Path, dev: str, test: str) -> Path:
    """Write two training speakers and two test speakers."""
    for folder, names in ((dev, ("id10001", "id11251")), (test, ("id10270", "id10309"))):
        for name in names:
            wav(root / folder / name / "xYz_1-a" / "00001.wav")
    (root / "veri_test2.txt").write_text("1 id10270/xYz_1-a/00001.wav id10309/xYz_1-a/00001.wav\n")
    return root


def tree(root: Path) -> dict[str, int]:
    """Say what a folder holds and when it was written."""
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*")}


def names(root: Path) -> list[str]:
    """List the audio below a folder of speakers, links followed."""
    found = [Path(folder, f) for folder, _, files in os.walk(root, followlinks=True) for f in files]
    return sorted(p.relative_to(root).as_posix() for p in found if not p.name.startswith("."))


def run(*arguments: object) -> None:
    prepare_voxceleb.main([str(argument) for argument in arguments])


def failing(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run and expect one sentence on standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as status:
        run(*arguments)
    assert status.value.code == 1
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    return told[0]


@pytest.mark.parametrize(
    ("dev", "test"),
    [
        ("dev/wav", "test/wav"),
        ("dev", "test"),
        ("wav", "wav"),
        (".", "."),
        ("vox1_dev_wav/wav", "vox1_test_wav/wav"),
    ],
)
def test_layouts_of_voxceleb1(tmp_path: Path, dev: str, test: str) -> None:
    source, out = voxceleb1(tmp_path / "vox1", dev, test), tmp_path / "data" / "voxceleb"
    before = tree(source)
    run("--voxceleb1", source, "--out", out)
    assert names(out / "dev") == ["id10001/xYz_1-a/00001.wav", "id11251/xYz_1-a/00001.wav"]
    assert names(out / "test") == ["id10270/xYz_1-a/00001.wav", "id10309/xYz_1-a/00001.wav"]
    assert (out / "trials" / "veri_test2.txt").read_text().startswith("1 id10270")
    corpus = json.loads((out / "corpus.json").read_text())
    assert (corpus["name"], corpus["title"], corpus["synthetic"]) == ("voxceleb", "VoxCeleb", False)
    assert tree(source) == before


def test_voxceleb2_is_converted_and_its_test_part_left_out(
    tmp_path: Path, ffmpeg: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = voxceleb1(tmp_path / "vox1", "wav", "wav")
    second, out = tmp_path / "vox2", tmp_path / "out"
    m4a(second / "dev/aac/id00012/abc/00001.m4a", ffmpeg)
    m4a(second / "dev/aac/id00012/abc/00002.m4a", ffmpeg)
    m4a(second / "test/aac/id00017/abc/00001.m4a", ffmpeg)
    (second / "dev/txt/id00012/abc").mkdir(parents=True)
    (second / "dev/txt/id00012/abc/00001.txt").write_text("face track")
    before = tree(second)
    arguments = ("--voxceleb1", first, "--voxceleb2", second, "--out", out, "--jobs", 2)
    run(*arguments)
    assert names(out / "dev")[:2] == ["id00012/abc/00001.flac", "id00012/abc/00002.flac"]
    assert len(names(out / "dev")) == 4 and len(names(out / "test")) == 2
    samples, rate = soundfile.read(out / "dev/id00012/abc/00001.flac")
    assert rate == 16000 and samples.ndim == 1
    assert abs(len(samples) / rate - 0.5) < 0.1 and np.abs(samples).max() > 0.2
    assert tree(second) == before
    assert "VoxCeleb2 training: 1 speakers of 5994" in capsys.readouterr().out

    converted = {p: p.stat().st_mtime_ns for p in (out / "dev/id00012").rglob("*.flac")}
    (out / "dev/id00012/abc/00002.flac").unlink()  # as a killed run would have left it
    (out / "corpus.json").unlink()
    (out / ".partial").mkdir()
    (out / ".partial/corpus.json").write_text(json.dumps(_description(first, second)))
    run(*arguments)
    again = {p: p.stat().st_mtime_ns for p in (out / "dev/id00012").rglob("*.flac")}
    assert set(again) == set(converted)
    kept = out / "dev/id00012/abc/00001.flac"
    assert again[kept] == converted[kept]


def _description(first: Path, second: Path) -> dict[str, object]:
    return {
        "name": "voxceleb",
        "title": "VoxCeleb",
        "synthetic": False,
        "voxceleb1": str(first.resolve()),
        "voxceleb2": str(second.resolve()),
        "voxceleb1_test_only": False,
        "train": ["dev"],
        "test_root": "test",
    }


def test_all_of_voxceleb1_for_testing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = voxceleb1(tmp_path / "vox1", "wav", "wav")
    (first / "list_test_hard2.txt").write_text("0 id10001/xYz_1-a/00001.wav id11251/x/00001.wav\n")
    wav(tmp_path / "vox2/dev/wav/id00012/abc/00001.wav")
    options = ("--voxceleb1", first, "--out", tmp_path / "out", "--voxceleb1_test_only")
    assert "VoxCeleb2 (--voxceleb2) is missing" in failing(capsys, *options)
    run(*options, "--voxceleb2", tmp_path / "vox2")
    assert names(tmp_path / "out/dev") == ["id00012/abc/00001.wav"]
    assert len(names(tmp_path / "out/test")) == 4
    assert (tmp_path / "out/trials/list_test_hard2.txt").exists()


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "out")
    first = voxceleb1(tmp_path / "vox1", "dev/wav", "test/wav")
    wav(tmp_path / "vox2/dev/wav/id00012/abc/00001.wav")

    assert "no training speakers" in failing(capsys, *out)
    told = failing(capsys, "--voxceleb2", tmp_path / "vox2", *out)
    assert "no test speakers" in told and prepare_voxceleb.HOME in told
    told = failing(capsys, "--voxceleb1", first / "test", *out)
    assert "no training speakers" in told and "VoxCeleb2" in told
    told = failing(capsys, "--voxceleb1", tmp_path / "nowhere", *out)
    assert "no such folder" in told and prepare_voxceleb.HOME in told
    (tmp_path / "empty").mkdir()
    assert "no folders id00000" in failing(capsys, "--voxceleb1", tmp_path / "empty", *out)
    assert "give that one as --voxceleb2" in failing(capsys, "--voxceleb1", tmp_path / "vox2", *out)
    (first / "veri_test2.txt").unlink()
    assert "download veri_test2.txt" in failing(capsys, "--voxceleb1", first, *out)
    assert "no such file" in failing(capsys, "--voxceleb1", first, "--trials", "gone.txt", *out)
    assert not (tmp_path / "out").exists()


def test_speaker_twice_in_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = voxceleb1(tmp_path / "vox1", "dev/wav", "test/wav")
    wav(first / "copy" / "id10001" / "v" / "00001.wav")
    told = failing(capsys, "--voxceleb1", first, "--out", tmp_path / "out")
    assert "id10001 twice" in told


def test_other_trees_into_the_same_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run("--voxceleb1", voxceleb1(tmp_path / "a", "wav", "wav"), "--out", out)
    before = tree(out)
    other = voxceleb1(tmp_path / "b", "wav", "wav")
    told = failing(capsys, "--voxceleb1", other, "--out", out)
    assert f"voxceleb1 {tmp_path / 'a'}, not {other}" in told
    assert tree(out) == before


def test_mirror_of_a_mixed_tree(tmp_path: Path, ffmpeg: str) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "data" / "speech" / "dev"
    wav(source / "anna/monday/1.wav")
    wav(source / "bert/monday/1.wav")
    m4a(source / "bert/monday/2.m4a", ffmpeg)
    m4a(source / "carl/monday/1.m4a", ffmpeg)
    wav(source / "carl/monday/1.wav")  # converted by somebody before
    before = tree(source)
    convert_audio.mirror_tree(source, mirror, jobs=2)
    assert (mirror / "anna").is_symlink() and (mirror / "carl").is_symlink()
    assert names(mirror / "bert") == ["monday/1.wav", "monday/2.flac"]
    assert not convert_audio.failure_table(mirror).exists()

    # A speaker who was only linked to gets an m4a file: it must not be converted among the
    # originals.
    m4a(source / "anna/monday/2.m4a", ffmpeg)
    before = tree(source)
    convert_audio.mirror_tree(source, mirror, jobs=2)
    assert names(mirror / "anna") == ["monday/1.wav", "monday/2.flac"]
    assert tree(source) == before


def test_damaged_files_are_listed(
    tmp_path: Path, ffmpeg: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, mirror = tmp_path / "speech", tmp_path / "mirror"
    good = m4a(source / "anna/monday/1.m4a", ffmpeg)
    bad = source / "anna/monday/2.m4a"
    bad.write_bytes(b"this is no audio")
    arguments = ["--src", str(source), "--dst", str(mirror)]
    with pytest.raises(SystemExit) as status:
        convert_audio.main(arguments)
    assert status.value.code == 1
    told = capsys.readouterr().err
    assert "1 of 2 files could not be converted" in told and "Traceback" not in told
    assert names(mirror) == ["anna/monday/1.flac"], (
        "the good one is kept, nothing half-made is left"
    )
    rows = (tmp_path / "mirror_failed.tsv").read_text().splitlines()
    assert rows[0] == "path\tdetail" and len(rows) == 2
    assert rows[1].split("\t")[0] == str(bad) and rows[1].split("\t")[1]

    convert_audio.main([*arguments, "--max_failed", "1"])  # insisting
    shutil.copyfile(good, bad)
    convert_audio.main(arguments)
    assert names(mirror) == ["anna/monday/1.flac", "anna/monday/2.flac"]
    assert not (tmp_path / "mirror_failed.tsv").exists()


def test_few_failures_are_tolerated_again_and_again(tmp_path: Path, ffmpeg: str) -> None:
    folder = tmp_path / "speech/anna/monday"
    good = m4a(folder / "0.m4a", ffmpeg)
    for number in range(1, 19):
        shutil.copyfile(good, folder / f"{number}.m4a")
    (folder / "19.m4a").write_bytes(b"this is no audio")
    for _ in range(2):  # the second time, only the damaged file is left to convert
        assert convert_audio.mirror_tree(tmp_path / "speech", tmp_path / "mirror", jobs=2) == 1


def test_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    source = tmp_path / "speech"
    wav(source / "anna/monday/1.wav")
    convert_audio.mirror_tree(source, tmp_path / "a", jobs=1)  # nothing to convert: not needed
    (source / "anna/monday/2.m4a").write_bytes(b"x")
    with pytest.raises(UserError, match="no ffmpeg on PATH"):
        convert_audio.mirror_tree(source, tmp_path / "b", jobs=1)


def test_full_disk_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "ffmpeg"
    fake.write_text(
        f"#!{sys.executable}\nimport sys\nopen(sys.argv[-1], 'w').write('half')\n"
        "sys.exit('av_write_frame(): No space left on device')\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "speech/anna/monday").mkdir(parents=True)
    (tmp_path / "speech/anna/monday/1.m4a").write_bytes(b"x")
    with pytest.raises(UserError, match="make room"):
        convert_audio.mirror_tree(tmp_path / "speech", tmp_path / "mirror", jobs=1, max_failed=1)
    assert names(tmp_path / "mirror") == []


def test_refused_mirrors(tmp_path: Path) -> None:
    a, b = wav(tmp_path / "a/anna/x/1.wav").parents[2], wav(tmp_path / "b/bert/x/1.wav").parents[2]
    mirror = tmp_path / "mirror"
    convert_audio.mirror_tree(a, mirror, jobs=1)
    with pytest.raises(UserError, match="was made from"):
        convert_audio.mirror_tree(b, mirror, jobs=1)
    with pytest.raises(UserError, match="lies inside"):
        convert_audio.mirror_tree(a, a / "mirror", jobs=1)
    with pytest.raises(UserError, match="did not make"):
        convert_audio.mirror_tree(a, b, jobs=1)
    with pytest.raises(UserError, match="holds no folders"):
        convert_audio.mirror_tree(a / "anna" / "x", tmp_path / "c", jobs=1)
