"""What evaluate.py cannot use, and what it says of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.audio import read_audio
from speechbrain_ext.inference import evaluation
from speechbrain_ext.inference.store import EmbeddingStore
from speechbrain_ext.systems.pretrained import load_pretrained
from speechbrain_ext.verification.trials import read_trials
from tests.recipe.evaluating import call, error_of, exported_model, listed_corpus, result
from tests.recipe.experiments import make_experiment
from tests.recipe.tiny import run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return listed_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def faulty(corpus: Path, tmp_path: Path) -> Path:
    """A copy of the corpus whose files can be spoilt."""
    shutil.copytree(corpus / "valid", tmp_path / "audio")
    shutil.copy(corpus / "own.txt", tmp_path)
    return tmp_path


def test_audio_of_any_kind_is_heard_unless_no_speech_can_be_in_it(
    model: Path, faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, own = faulty / "audio", faulty / "own.txt"
    trials = read_trials(own)
    path = root / f"{trials.enrol[0]}.wav"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (16000, 2))
    soundfile.write(path, noise, 8000)
    call(model, "--out", faulty / "out", "--trials", root, own)
    encoder = load_pretrained(model)
    a, b = (encoder(read_audio(root / f"{s[0]}.wav")[None]) for s in (trials.enrol, trials.test))
    score = np.loadtxt(faulty / "out" / "scores" / "own.txt", usecols=3)[0]
    assert score == pytest.approx(torch.cosine_similarity(a, b, dim=2).item(), abs=1e-5)
    soundfile.write(path, np.zeros(16000), 16000)
    error = error_of(capsys, model, "--out", faulty / "out", "--trials", root, own)
    assert f"({path}) cannot be used (the first: all samples are the same): mend" in error


def test_files_that_cannot_be_embedded(
    model: Path,
    faulty: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is written before all lists and files are in order."""
    monkeypatch.setattr("speechbrain_ext.sound.shutil.which", lambda _: None)
    root, out = faulty / "audio", faulty / "out"
    arguments = (model, "--out", out, "--trials", root, faulty / "own.txt")
    spoilt = root / "id050" / "s0" / "0.wav"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (16000, 2))
    for write, words in (
        (lambda: soundfile.write(spoilt, noise[:100, 0], 16000), "shorter than the 257 samples"),
        (lambda: soundfile.write(spoilt, noise[:0, 0], 16000), "used (the first: no samples)"),
        (lambda: soundfile.write(spoilt, 1e-4 * noise[:, 0], 16000), "used (the first: -"),
        (lambda: soundfile.write(spoilt, noise[:, :1] * [1, -1], 16000), "samples are the same"),
        (lambda: spoilt.write_text("no audio"), "cannot be used (the first: Format not recognised"),
        (lambda: spoilt.rename(spoilt.with_suffix(".m4a")), ".m4a needs ffmpeg"),
    ):
        write()
        error = error_of(capsys, *arguments)
        named = spoilt if spoilt.exists() else spoilt.with_suffix(".m4a")
        assert words in error and f"1 of 16 audio files ({named})" in error
    spoilt.with_suffix(".m4a").unlink()
    (root / "id051" / "s1" / "1.wav").unlink()
    assert (
        f"{faulty / 'own.txt'}: 2 of its 16 audio files are not below {root} "
        "(id050/s0/0, id051/s1/1)" in error_of(capsys, *arguments)
    )
    assert not out.exists()


def test_lists_that_cannot_be_evaluated(
    model: Path, faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, own = faulty / "audio", faulty / "own.txt"
    (faulty / "same.txt").write_text("1 id050/s0/0 id050/s1/1\n")
    (faulty / "other.txt").write_text("id050/s0/0 id051/s1/1 nontarget\n")
    (faulty / "bad.txt").write_text("id050/s0/0 id051/s1/1\n")
    (faulty / "again").mkdir()
    shutil.copy(own, faulty / "again" / "own.txt")
    out = faulty / "out"
    for lists, words in (
        ([root, faulty / "same.txt"], "same.txt: has no non-target trial"),
        ([root, own, faulty / "other.txt"], "other.txt: has no target trial"),
        ([root, faulty / "bad.txt"], "bad.txt:1: 'id050/s0/0 id051/s1/1' is no trial"),
        ([root, faulty / "nowhere.txt"], "nowhere.txt: the trial list cannot be read"),
        ([root, own, faulty / "again/own.txt"], "are both called 'own'"),
        ([root, own, own], "are both called 'own'"),
        ([faulty / "nowhere", own], "there is no such folder; write --trials ROOT LIST"),
        ([root], "no list is given; write --trials ROOT LIST"),
    ):
        assert words in error_of(capsys, model, "--out", out, "--trials", *lists)
    assert not out.exists()


def test_folders_that_hold_other_results(
    model: Path, faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, trials = faulty / "out", ("--trials", faulty / "audio", faulty / "own.txt")
    call(model, "--out", out, *trials)
    other = make_experiment(faulty / "other", "teacher")
    (faulty / "again").mkdir()
    shutil.copy(faulty / "own.txt", faulty / "again" / "own.txt")
    again = ("--trials", faulty / "audio", faulty / "again" / "own.txt")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    for arguments, words in (
        ((other, "--out", out, *trials), "was made with another model"),
        ((model, "--out", out, "--view", "both", *trials), "--view full and not --view both"),
        ((model, "--out", faulty, *trials), "holds files that evaluate.py did not make"),
        ((model, "--out", out, *again), "would be filed under the same name"),
        ((faulty, "--out", out, *trials), "has no hyperparams.yaml"),
    ):
        assert words in error_of(capsys, *arguments)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    part = out / "embeddings" / "part_000000.npz"
    part.write_bytes(part.read_bytes()[:50])
    assert "part_000000.npz is damaged" in error_of(capsys, model, "--out", out, *trials)
    part.unlink()
    (out / "results" / "own.json").write_text("{}")
    assert "own.json is no result of evaluate.py" in (
        error_of(capsys, model, "--out", out, *trials)
    )


def test_a_mistake_is_one_line(model: Path, tmp_path: Path) -> None:
    done = run("evaluate.py", model, "--out", tmp_path / "out", "--trials", tmp_path, "no.txt")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: no.txt: the trial list cannot be read (No such file or directory)."
    ]


def test_an_embedding_that_is_not_finite_is_named(
    model: Path, faulty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        evaluation, "embed_batch", lambda _, batch, __: dict.fromkeys(batch.ids, np.full(4, np.nan))
    )
    arguments = (model, "--out", faulty / "out", "--trials", faulty / "audio", faulty / "own.txt")
    error = error_of(capsys, *arguments)
    assert ".wav is zero or not finite: look at that recording" in error
    assert not list((faulty / "out").rglob("*.npz"))


def test_of_an_utterance_in_two_formats_the_usable_one_is_taken(
    model: Path, faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same whether a list names one of them, the other, or neither."""
    root, out = faulty / "audio", faulty / "out"
    first, second = root / "id050/s0/0.wav", root / "id050/s0/0.flac"
    soundfile.write(second, *soundfile.read(first))
    first.write_text("no audio")
    for number, ending in enumerate((".wav", ".flac", "")):
        (faulty / f"{number}.txt").write_text(
            f"1 id050/s0/0{ending} id050/s1/1\n0 id050/s0/0{ending} id051/s1/1\n"
        )
    call(model, "--out", out, "--trials", root, *(faulty / f"{number}.txt" for number in range(3)))
    said = capsys.readouterr().out
    assert f"another format is: {second} in the place of {first}" in said
    assert str(second) in EmbeddingStore(out / "embeddings").known()
    assert len({result(out, str(number))["eer_threshold"] for number in range(3)}) == 1
    second.unlink()
    assert "(the first: Format not recognised.): mend" in error_of(
        capsys, model, "--out", out, "--trials", root, faulty / "0.txt"
    )
