"""VoxCeleb as people have it on their disks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_ext.corpora import voxceleb
from speechbrain_ext.corpora.maker import corpus_command
from tests.audio_files import m4a, names, tree, wav

LIST = (
    "1 id10270/xYz_1-a/00001.wav id10270/xYz_1-a/00001.wav\n"
    "0 id10270/xYz_1-a/00001.wav id10309/xYz_1-a/00001.wav\n"
)


def voxceleb1(root: Path, dev: str, test: str) -> Path:
    """Write two training speakers and two test speakers."""
    for folder, people in ((dev, ("id10001", "id11251")), (test, ("id10270", "id10309"))):
        for name in people:
            wav(root / folder / name / "xYz_1-a" / "00001.wav")
    (root / "veri_test2.txt").write_text(LIST)
    return root


def run(*arguments: object) -> None:
    corpus_command("voxceleb", [str(argument) for argument in arguments])


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
    (first / "list_test_hard2.txt").write_text(LIST)
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
    assert "no test speakers" in told and voxceleb.HOME in told
    told = failing(capsys, "--voxceleb1", first / "test", *out)
    assert "no training speakers" in told and "VoxCeleb2" in told
    told = failing(capsys, "--voxceleb1", tmp_path / "nowhere", *out)
    assert "no such folder" in told and voxceleb.HOME in told
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


def test_what_has_changed_is_followed(tmp_path: Path) -> None:
    """A speaker and a recording that are gone, a recording that is another's."""
    first, out = voxceleb1(tmp_path / "vox1", "wav", "wav"), tmp_path / "out"
    wav(first / "wav/id10002/v/1.wav")
    wav(first / "wav/id10002/v/2.wav", rate=8000)
    wav(first / "wav/id10003/v/1.wav", rate=8000)
    run("--voxceleb1", first, "--out", out)
    assert "id10003/v/1.flac" in names(out / "dev")
    shutil.rmtree(first / "wav/id10003")
    (first / "wav/id10002/v/1.wav").unlink()
    wav(first / "wav/id10002/v/2.wav", rate=4000)
    run("--voxceleb1", first, "--out", out)
    assert [name for name in names(out / "dev") if name < "id10009"] == [
        "id10001/xYz_1-a/00001.wav",
        "id10002/v/2.flac",
    ]
    assert soundfile.info(out / "dev/id10002/v/2.flac").frames == 32000


def test_the_trial_lists_are_those_of_the_last_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, out = voxceleb1(tmp_path / "vox1", "wav", "wav"), tmp_path / "out"
    mine, refused, same = (tmp_path / name for name in ("mine.txt", "bad.txt", "b/mine.txt"))
    mine.write_text(LIST)
    refused.write_text(LIST.replace("1 ", "yes "))
    same.parent.mkdir()
    same.write_text(LIST)
    options = ("--voxceleb1", first, "--out", out)
    told = failing(capsys, *options, "--trials", refused)
    assert f"{refused}:1:" in told and not out.exists()
    run(*options, "--trials", mine)
    assert names(out / "trials") == ["mine.txt"]
    failing(capsys, *options, "--trials", refused)
    assert "both called 'mine'" in failing(capsys, *options, "--trials", mine, same)
    assert names(out / "trials") == ["mine.txt"]
    run(*options)
    assert names(out / "trials") == ["veri_test2.txt"]
