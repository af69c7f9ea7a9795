"""Stage 0's command: a corpus by its name, one's own speech, and a corpus that is added."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from speechbrain_ext import corpora
from speechbrain_ext.corpora.maker import corpus_command, corpus_names, describe_corpus
from speechbrain_ext.systems import describe
from tests.audio_files import names, tree, wav

ADDED = '''
"""A corpus of one file."""

from speechbrain_ext.corpora.maker import CorpusMaker


class Letters(CorpusMaker):
    """Speakers who are called as letters are."""

    def add_options(self, parser):
        parser.add_argument("--letters", required=True, help="their names")

    def prepare(self, out, options):
        for letter in options.letters:
            (out / "dev" / letter).mkdir(parents=True)
        return {"name": "letters", "title": "Letters", "synthetic": False}


CORPUS = Letters()
'''


def refused(capsys: pytest.CaptureFixture[str], name: str, *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as status:
        corpus_command(name, arguments, f"prepare_corpus.py {name}")
    told = capsys.readouterr().err
    assert status.value.code == 1 and told.startswith("error: ") and told.count("\n") == 1
    return told


def test_ones_own_speech(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, speech = tmp_path / "data" / "mine", tmp_path / "speech"
    wav(speech / "train/anna/monday/1.wav")
    wav(speech / "train/bert/1.wav", rate=44100, channels=2)
    wav(speech / "test/carl/1.wav")
    before = tree(speech)
    train = ["--out", str(out), "--data", str(speech / "train")]
    corpus_command("own", train)
    assert names(out / "dev") == ["anna/monday/1.wav", "bert/1.flac"]
    assert not (out / "test").exists()
    corpus_command("own", [*train, "--trials_root", str(speech / "test"), "--jobs", "1"])
    assert names(out / "test") == ["carl/1.wav"] and tree(speech) == before
    assert f"{out / 'test'}: 1 recordings used as they are" in capsys.readouterr().out
    told = json.loads((out / "corpus.json").read_text())
    assert told == {"name": "mine", "title": "mine", "synthetic": False}
    assert "was made from" in refused(capsys, "own", "--out", str(out), "--data", str(speech))


def test_what_cannot_be_made_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"))
    told = refused(capsys, "minni", *out)
    assert "no corpus 'minni'" in told and "libri_mini, mini, own, voxceleb" in told
    assert "no corpus 'tree'" in refused(capsys, "tree", *out)  # a module, but no corpus
    assert "--data" in refused(capsys, "own", *out)
    told = refused(capsys, "mini", *out, "--voxceleb1", ".")
    assert "--voxceleb1" in told and "prepare_corpus.py mini --help" in told
    assert "--jobs is 0" in refused(capsys, "mini", *out, "--jobs", "0")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", ["trials_root", "unlabelled"])
def test_every_folder_is_looked_at_before_any_is_mirrored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    wav(tmp_path / "speech/train/anna/1.wav")
    out = tmp_path / "out"
    given = ("--out", str(out), "--data", str(tmp_path / "speech/train"))
    told = refused(capsys, "own", *given, f"--{wrong}", str(tmp_path / "missing"))
    assert str(tmp_path / "missing") in told and not out.exists()


def test_a_corpus_is_added_by_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "letters.py").write_text(ADDED)
    monkeypatch.setattr(corpora, "__path__", [*corpora.__path__, str(tmp_path)])
    assert "letters" in corpus_names()
    assert (
        describe_corpus("letters")["corpus_options"]
        == "--out --jobs --unlabelled --max_failed --letters"
    )
    corpus_command("letters", ["--letters", "ab", "--out", str(tmp_path / "out")])
    assert sorted(path.name for path in (tmp_path / "out/dev").iterdir()) == ["a", "b"]
    assert json.loads((tmp_path / "out/corpus.json").read_text())["title"] == "Letters"


def test_what_run_sh_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The corpus beside the YAML files, as assignments of a shell."""
    student = tmp_path / "mine.yaml"
    student.write_text("{system: mine, teacher_source: some/wavlm}")
    command = ["describe", "--student", str(student), "--teacher", str(student), "--corpus"]
    for corpus, options in (
        ("own", "'--out --jobs --unlabelled --max_failed --data "),
        ("my speech", "''"),
        ("tree", "''"),
    ):
        monkeypatch.setattr(sys, "argv", [*command, corpus])
        describe.main()
        told = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
        assert told["student_system"] == "mine" and told["corpus_options"].startswith(options)
        assert told["makers"] == "'libri_mini or mini or voxceleb'"
