"""The command that embeds every file below a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import embed
import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.audio import read_audio
from speechbrain_ext.export.model_folder import write_model_folder
from speechbrain_ext.inference.views import VIEWS
from speechbrain_ext.systems.pretrained import load_pretrained
from tests.recipe.experiments import make_experiment
from tests.recipe.killing import run_until
from tests.recipe.tiny import run


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_experiment(tmp_path_factory.mktemp("models") / "v2" / "seed_1")
    write_model_folder(folder, folder / "export")
    return folder


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Recordings as people have them."""
    rng = np.random.default_rng(0)
    root = tmp_path / "recordings"
    for name, seconds, rate, channels in (
        ("2024/may/call 1.wav", 1.0, 8000, 2),
        ("2024/may/call 2.flac", 0.7, 44100, 1),
        ("2024/june.ogg", 2.0, 16000, 1),
        ("2024/june.wav", 0.5, 16000, 1),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        noise = rng.uniform(-0.3, 0.3, (int(seconds * rate), channels))
        soundfile.write(root / name, noise, rate)
    (root / "readme.txt").touch()
    return root


def call(*arguments: str | Path) -> int:
    """The command in this process, which saves the time of starting another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["embed.py", "--device", "cpu", *map(str, arguments)])
        with embed.friendly_exit():
            return embed.main()


def test_torchrun_is_refused(
    model: Path,
    audio: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        call(model, audio, tmp_path / "out")
    assert "embed.py is one process" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command(model: Path, audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("embed.py", model, audio, out)
    assert done.returncode == 0, done.stderr
    assert "4 embeddings written, 0 were there, 0 failed, 1 other files ignored (1 .txt)" in (
        done.stdout
    )
    encoder = load_pretrained(model)
    for name in ("may/call 1.wav", "may/call 2.flac", "june.ogg", "june.wav"):
        vector = np.load(out / "2024" / f"{name}.npy")
        with torch.no_grad():
            expected = encoder(read_audio(audio / "2024" / name)[None])[0, 0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)

    (audio / "broken.wav").write_text("no audio")
    soundfile.write(audio / "click.wav", np.linspace(-0.3, 0.3, 100), 16000)
    done = run("embed.py", model / "export", audio, out)
    assert done.returncode == 1
    assert "0 embeddings written, 4 were there, 2 failed" in done.stdout
    assert done.stderr.splitlines() == [
        "failed: broken.wav: unreadable: Format not recognised.",
        "failed: click.wav: too_short: 100 samples at 16000 Hz, fewer than 257",
    ]
    assert (out / "failures.tsv").read_text().splitlines()[1:] == [
        "broken.wav\tunreadable\tFormat not recognised.",
        "click.wav\ttoo_short\t100 samples at 16000 Hz, fewer than 257",
    ]


def test_a_killed_run_goes_on(model: Path, tmp_path: Path) -> None:
    """What is there after the kill is whole, and is not made again."""
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    for number in range(12):
        wave = np.random.default_rng(number).uniform(-0.3, 0.3, 16000)
        soundfile.write(root / f"{number:03}.wav", wave, 16000)
    arguments: list[str | Path] = [model, root, out]
    arguments += ["--max_batch_seconds", "1", "--num_workers", "1"]
    run_until(6, ".wav.npy", "embed.py", *arguments)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("[0-9]*.npy")}
    assert len(before) == 5
    assert {np.load(out / name).shape for name in before} == {(8,)}
    assert call(*arguments) == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("[0-9]*.npy")}
    assert len(after) == 12 and before.items() <= after.items()


@pytest.mark.parametrize("view", ["segments", "both"])
def test_views(view: str, model: Path, audio: Path, tmp_path: Path) -> None:
    assert call(model, audio, tmp_path / "out", "--view", view) == 0
    wav = read_audio(audio / "2024/may/call 1.wav")[None]
    expected = VIEWS[view](load_pretrained(model))(wav)[0, 0]
    vector = np.load(tmp_path / "out" / "2024/may/call 1.wav.npy")
    np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)
    facts = json.loads((tmp_path / "out" / "model.json").read_text())
    assert facts["view"] == view and facts["model"] == str(model)


def test_another_models_folder_is_refused(
    model: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(model, audio, out) == 0
    other = make_experiment(tmp_path / "other", "teacher")
    files = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    for arguments, words in (
        ([other, audio, out], "was made with another model"),
        ([model, audio, out, "--view", "both"], "was made with --view full and not --view both"),
        ([model, audio, audio], "holds files that embed.py did not make"),
        ([model, tmp_path / "nowhere", out], "there is no such folder"),
        ([tmp_path, audio, out], "has no hyperparams.yaml"),
        ([model, audio, out, "--device", "cuda:99"], "--device cuda:99 cannot be used ("),
        ([model, audio, out, "--num_workers", "-1"], "--num_workers -1: give 0 or more"),
        ([model, audio, out, "--max_batch_seconds", "0"], "--max_batch_seconds 0.0: give more"),
    ):
        with pytest.raises(SystemExit) as stop:
            call(*arguments)
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert stop.value.code == 1 and error.startswith("error: ") and words in error
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == files
