"""One's own speech as a list of files: what is made of it, and each line that cannot be used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest
import soundfile

from local.prepare_manifests import main as prepare_manifests
from speechbrain_ext.corpora.mirror import make
from tests.audio_files import names, wav
from tests.recipe.tiny import RECIPE
from tests.refusals import refused


def kaldi(folder: Path, audio: Path, speakers: list[str]) -> Path:
    """Two utterances of each speaker, in one folder without an order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[str] = []
    owners = []
    for speaker in speakers:
        for number in range(2):
            rate = 8000 if number else 16000
            path = wav(audio / f"{len(paths):03}.wav", rate=rate)
            paths.append(f"{speaker}-{number} {path}")
            owners.append(f"{speaker}-{number} {speaker}")
    (folder / "wav.scp").write_text("\n".join(paths) + "\n")
    (folder / "utt2spk").write_text("\n".join(owners) + "\n")
    return folder


def mirrored(source: Path, mirror: Path) -> list[str]:
    make.mirror_source(source, mirror, jobs=1)
    return names(mirror)


def json_lines(path: Path, *entries: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_kaldi(tmp_path: Path) -> None:
    source, mirror = tmp_path / "kaldi", tmp_path / "mirror"
    kaldi(source, tmp_path / "audio", ["anna", "bert"])
    assert mirrored(source, mirror) == [
        "anna/anna-0.wav", "anna/anna-1.flac", "bert/bert-0.wav", "bert/bert-1.flac"
    ]  # fmt: skip
    assert soundfile.info(mirror / "anna/anna-1.flac").samplerate == 16000
    # A recording that is cut; the last end is a little late, as Kaldi allows.
    (source / "segments").write_text("a1 anna-0 0.1 0.3\na2 anna-1 0.5 1.3\nb1 bert-0 0.2 -1\n")
    (source / "utt2spk").write_text("a1 anna\na2 anna\nb1 bert\n")
    assert mirrored(source, mirror) == ["anna/a1.flac", "anna/a2.flac", "bert/b1.flac"]
    frames = [soundfile.info(mirror / name).frames for name in names(mirror)]
    assert frames == [3200, 8000, 4800]
    (source / "segments").write_text("a1 anna-0 0.1 0.4\na2 anna-1 0.5 1\nb1 bert-0 0.2 0.3\n")
    assert len(mirrored(source, mirror)) == 3
    frames = [soundfile.info(mirror / name).frames for name in names(mirror)]
    assert frames == [4800, 8000, 1600]


def test_csv(tmp_path: Path) -> None:
    wav(tmp_path / "1.wav"), wav(tmp_path / "2.wav", rate=8000)
    source = tmp_path / "train.csv"
    source.write_text(
        "ID,duration,wav,start,stop,spk_id\n"
        "anna/s/1,0.5,1.wav,0,8000,anna\n"  # the whole of a file that can stay as it is
        "anna--1_0.1_0.2,0.1,1.wav,1600,3200,anna\n"
        f"x,0.5,{tmp_path}/2.wav,4000,8000,bert\n"
        "y,1,2.wav,,,bert\n"
    )
    mirror = tmp_path / "mirror"
    assert mirrored(source, mirror) == [
        "anna/anna--1_0.1_0.2.flac", "anna/s/1.wav", "bert/x.flac", "bert/y.flac"
    ]  # fmt: skip
    frames = [soundfile.info(mirror / name).frames for name in names(mirror)]
    assert frames == [1600, 8000, 8000, 16000]
    source.write_text("ID,wav,spk_id\nx,1.wav,bert\n")
    assert mirrored(source, mirror) == ["bert/x.wav"]


def test_json_lines(tmp_path: Path) -> None:
    path = wav(tmp_path / "vox/anna/monday/1.wav")
    other = wav(tmp_path / "vox/anna/tuesday/1.wav")
    flat = wav(tmp_path / "all/7.wav")
    wespeaker = json_lines(
        tmp_path / "raw.list",
        {"key": "anna/monday/1.wav", "wav": str(path), "spk": "anna"},
        {"key": "anna-7", "wav": str(flat), "spk": "anna"},
    )
    assert mirrored(wespeaker, tmp_path / "w") == ["anna/anna-7.wav", "anna/monday/1.wav"]
    nemo = json_lines(
        tmp_path / "nemo.json",
        {"audio_filepath": str(path), "duration": 0.5, "label": "anna"},
        {"audio_filepath": str(other), "duration": 0.5, "label": "anna"},
        {"audio_filepath": str(flat), "offset": 0, "duration": 0.496, "label": "bert"},
        {"audio_filepath": str(flat), "offset": 0.0, "duration": 0.25, "label": 12},
        {"audio_filepath": str(flat), "offset": 0.25, "duration": 0.25, "label": 12},
    )
    assert mirrored(nemo, tmp_path / "n") == [
        "12/all/7-00000000.flac", "12/all/7-00000250.flac",
        "anna/monday/1.wav", "anna/tuesday/1.wav",
        "bert/all/7-00000000.wav",  # which is the whole file
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        (
            "wav.scp",
            lambda t: t + "c-0 sph2pipe -p x.sph |\n",
            ("bad-line", "wav.scp:5:", "sph2pipe -p x.sph |"),
        ),
        ("wav.scp", lambda t: t + "c-0 /gone.wav\n", ("unknown-name", "utt2spk", "c-0")),
        (
            "wav.scp",
            lambda t: t.replace("003.wav", "4.wav"),
            ("missing-audio", "utt2spk:4:", "/4.wav"),
        ),
        (
            "wav.scp",
            lambda t: t.replace("003.wav", "a.ark:7"),
            ("bad-line", "utt2spk:4:", "a.ark:7"),
        ),
        (
            "wav.scp",
            lambda t: t + "anna-0 /other.wav\n",
            ("repeated-name", "wav.scp:5:", "anna-0", "scp:1"),
        ),
        ("wav.scp", lambda t: t + "c-0\n", ("bad-line", "wav.scp:5:", "'c-0'")),
        (
            "utt2spk",
            lambda t: "\n" + t + "c-0 carl\n",
            ("unknown-utterance", "utt2spk:6:", "c-0", "wav.scp"),
        ),
        (
            "utt2spk",
            lambda t: t + "anna-0 anna\n",
            ("repeated-name", "utt2spk:5:", "anna-0", ":1 "),
        ),
        ("utt2spk", lambda t: t.replace(" anna", " a/b"), ("bad-name", ":1:", "'a/b'")),
        ("utt2spk", lambda t: t.replace(" anna", " a b"), ("bad-name", ":1:", "'a b'")),
        ("utt2spk", lambda t: "", ("unknown-name", "utt2spk", "anna-0", "3")),
        ("utt2spk", None, ("unreadable-file", "utt2spk")),
        (
            "segments",
            lambda t: "x anna-0 1 0.5\n",
            ("unknown-utterance", "utt2spk:1:", "anna-0", "segments"),
        ),
        (
            "segments",
            lambda t: 2 * "anna-0 anna-0 0 1\n",
            ("repeated-name", "segments:2:", "anna-0", "segments:1"),
        ),
        (
            "segments",
            lambda t: "anna-0 anna-0 1\n",
            ("bad-line", "segments:1:", "'utterance recording start end'"),
        ),
        ("segments", lambda t: "anna-0 anna-0 1 x\n", ("bad-line", "segments:1:", "'x'")),
    ],
)
def test_lines_of_kaldi_that_cannot_be_used(
    tmp_path: Path, file: str, change: Callable[[str], str] | None, told: tuple[str, ...]
) -> None:
    source = kaldi(tmp_path / "kaldi", tmp_path / "audio", ["anna", "bert"])
    path = source / file
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text() if path.exists() else ""))
    with refused(*told):
        make.mirror_source(source, tmp_path / "mirror", jobs=1)
    assert not (tmp_path / "mirror").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ID,wav,spk_id\na,1.wav,anna\n\nb,2.wav,anna\n", ("missing-audio", ":4:", "/2.wav")),
        ("ID,wav,spk_id\na,1.wav\n", ("bad-line", ":2:", "fewer")),
        ("ID,wav,spk_id\na,1.wav,anna,7\n", ("bad-line", ":2:", "more")),
        ("ID,wav,spk_id\na,$data_root/1.wav,anna\n", ("bad-line", ":2:", "$data_root/1.wav")),
        ("ID,wav,spk_id\na,1.wav,\n", ("missing-column", ":2:", "spk_id")),
        ("wav,spk_id\n1.wav,anna\n", ("missing-column", ":1:", "ID")),
        ("ID,wav,spk_id\n", ("empty-list",)),
        ("ID,wav,spk_id,start,stop\na,1.wav,anna,9,x\n", ("bad-line", ":2:", "'x'")),
        ("ID,wav,spk_id,start,stop\na,1.wav,anna,9,5\n", ("bad-line", ":2:", "9", "5")),
        ("ID,wav,spk_id\na,1.wav,anna\na,1.wav,anna\n", ("repeated-name", ":3:", "anna/a", ":2 ")),
        ('ID,wav,spk_id\na,1.wav,"anna\n' + "x" * 140000, ("bad-line", ":2:", "field larger")),
        ('ID,wav,spk_id\na,1.wav,"anna\nb,1.wav,bert', ("bad-line", ":3:")),
        ("ID,wav,spk_id\n../b,1.wav,anna\n", ("bad-name", ":2:", "'../b'")),
        ('{"key": "a", "wav": "1.wav", "spk": "anna"}\n{"key":\n', ("bad-line", ":2:", "JSON")),
        ('{"key": "a", "wav": "1.wav"}\n', ("missing-column", ":1:", "spk or spk_id or label")),
        ('{"key": "a", "spk": "anna"}\n', ("missing-column", ":1:", "wav or audio_filepath")),
        ('{"wav": "1.wav", "spk": "anna", "offset": 1}\n', ("bad-line", ":1:", "None")),
        ("anna 1.wav\n", ("unknown-format", "'anna 1.wav'")),
        ("", ("unknown-format", "''")),
        ("\udcff", ("not-utf8",)),
    ],
)
def test_lines_of_files_that_cannot_be_used(
    tmp_path: Path, text: str, told: tuple[str, ...]
) -> None:
    wav(tmp_path / "1.wav")
    source = tmp_path / "list.txt"
    source.write_text(text, errors="surrogateescape")
    with refused(*told) as caught:
        make.mirror_source(source, tmp_path / "mirror", jobs=1)
    assert re.match(re.escape(str(source)), str(caught.value))
    assert not (tmp_path / "mirror").exists()


def test_files_of_kaldi_are_named_as_the_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = kaldi(tmp_path / "kaldi", tmp_path / "audio", ["anna"])
    (source / "segments").write_text("anna-0 anna-0 0 1\n")
    monkeypatch.chdir(tmp_path)
    named = ("kaldi/utt2spk:2:", "anna-1", "kaldi/segments")
    with refused("unknown-utterance", *named) as caught:
        make.mirror_source(Path("kaldi"), Path("mirror"), jobs=1)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_letters_with_accents_in_paths(
    tmp_path: Path, forms: tuple[Literal["NFC", "NFD"], Literal["NFC", "NFD"]]
) -> None:
    """The disk may have é as one letter and the list as two, or the other way round."""
    there, listed = (normalize(form, "café/é.wav") for form in forms)
    wav(tmp_path / there)
    source = tmp_path / "list.csv"
    source.write_text(f"ID,wav,spk_id\na,{listed},anna\n")
    assert mirrored(source, tmp_path / "mirror") == ["anna/a.wav"]


def test_a_part_that_a_file_does_not_have(tmp_path: Path) -> None:
    wav(tmp_path / "1.wav")
    source = tmp_path / "list.csv"
    source.write_text("ID,wav,spk_id,start,stop\na,1.wav,anna,0,32000\nb,1.wav,anna,0,100\n")
    outcome = make.mirror_source(source, tmp_path / "mirror", jobs=1, max_failed=1)
    assert outcome.failed == [(str(tmp_path / "1.wav"), "ends after 8000 of 32000 samples")]
    assert names(tmp_path / "mirror") == ["anna/b.flac"]


def test_trials_of_kaldi(tmp_path: Path) -> None:
    """Stage 1 after stage 0: a list that names utterances finds them below their speakers."""
    corpus = tmp_path / "corpus"
    train = kaldi(tmp_path / "train", tmp_path / "audio", ["a", "b", "c", "d"])
    test = kaldi(tmp_path / "test", tmp_path / "other", ["x", "y"])
    trials = tmp_path / "trials"
    trials.write_text("x-0 x-1 target\nx-0 y-1 nontarget\n")
    make.mirror_source(train, corpus / "dev", 1)
    make.mirror_source(test, corpus / "test", 1)
    words = [RECIPE / "hparams/manifests.yaml", "--corpus_dir", corpus, "--valid_speakers", 2]
    words += ["--train", corpus / "dev", "--trials", trials, "--trials_root", corpus / "test"]
    prepare_manifests([str(word) for word in [*words, "--jobs", 1]])
    written = (corpus / "manifests/trials/trials.txt").read_text()
    assert written == "1 x/x-0 x/x-1\n0 x/x-0 y/y-1\n"
    assert "x/x-1,1.0000" in (corpus / "manifests/test.csv").read_text()
