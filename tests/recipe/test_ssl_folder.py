"""local/make_ssl_model.py and speechbrain_ext.measure.step_memory, as commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from speechbrain.inference.speaker import EncoderClassifier

from speechbrain_ext.lobes.ssl_encoder import SSLEncoder
from speechbrain_ext.systems.experiment import load_encoder
from tests.recipe.tiny import make_corpus, run

MEMORY = "speechbrain_ext.measure.step_memory"
pytestmark = pytest.mark.slow

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and a new WavLM of 2 layers."""
    folder = tmp_path_factory.mktemp("place")
    make_corpus(folder / "corpus")
    sizes = ["--hidden_size", 64, "--num_layers", 2, "--conv_channels", 16]
    result = run("local/make_ssl_model.py", "new", folder / "new", *sizes)
    assert result.returncode == 0, result.stderr
    assert "parameters" in result.stdout
    return folder


def training(place: Path, folder: Path, layers: str = "[1, 2]") -> list[str]:
    settings = {
        "corpus_dir": place / "corpus",
        "teacher_source": place / "new",
        "teacher_layers": layers,
        "output_folder": folder,
        "back_end": "{channels: [16, 16, 16, 16, 48]}",
        "crop_seconds": 0.5,
        "batch_size": 12,
        "number_of_epochs": 1,
        "num_workers": 0,
        "lr": 0.001,
        "device": "cpu",
    }
    words = ["hparams/ssl/wavlm_finetuned.yaml", "--noprogressbar"]
    return words + [str(word) for key, value in settings.items() for word in (f"--{key}", value)]


def test_what_was_fine_tuned_becomes_a_teacher(place: Path) -> None:
    experiment, folder = place / "exp", place / "saved"
    result = run("train_teacher.py", *training(place, experiment))
    assert result.returncode == 0, result.stderr
    result = run("local/make_ssl_model.py", "save", experiment, folder)
    assert result.returncode == 0, result.stderr
    trained = load_encoder(experiment).embedding_model
    saved = SSLEncoder(str(folder), "wavlm", layers=[1, 2], offline=True).eval()
    new = SSLEncoder(str(place / "new"), "wavlm", layers=[1, 2], offline=True).eval()
    wavs = 0.1 * torch.randn(2, 8000)
    with torch.no_grad():
        expected = trained(wavs, intermediates=True)[1]  # type: ignore[operator]
        found, first = (model(wavs, intermediates=True)[1] for model in (saved, new))
    for layer, value in enumerate(expected):
        torch.testing.assert_close(found[layer], value)
        assert not torch.allclose(first[layer], value, atol=1e-3)
    assert saved.normalize


def test_what_was_fine_tuned_needs_its_source_no_more(place: Path, tmp_path: Path) -> None:
    source, experiment = tmp_path / "source", tmp_path / "exp"
    shutil.copytree(place / "new", source)
    words = training(place, experiment)
    words[words.index("--teacher_source") + 1] = str(source)
    result = run("train_teacher.py", *words)
    assert result.returncode == 0, result.stderr
    wavs = 0.1 * torch.randn(2, 8000)
    with torch.no_grad():
        expected = load_encoder(experiment)(wavs)
        shutil.rmtree(source)
        torch.testing.assert_close(load_encoder(experiment)(wavs), expected)
        result = run("export.py", experiment)
        assert result.returncode == 0, result.stderr
        folder = str(experiment / "export")
        exported = EncoderClassifier.from_hparams(source=folder, savedir=folder)
        torch.testing.assert_close(exported.encode_batch(wavs), expected)
    assert 'pip install ".[ssl]"' in (experiment / "export" / "README.md").read_text()


def test_mistakes_are_one_sentence(place: Path, tmp_path: Path) -> None:
    result = run("local/make_ssl_model.py", "new", place / "new")
    assert result.returncode == 1 and "is there: choose another folder" in result.stderr
    result = run("local/make_ssl_model.py", "new", tmp_path / "x", "--hidden_size", 100)
    assert result.returncode == 1 and "--hidden_size 100" in result.stderr
    assert not [*tmp_path.iterdir()]
    result = run("train_teacher.py", *training(place, tmp_path / "exp", layers="[1]"))
    assert result.returncode == 0, result.stderr
    result = run("local/make_ssl_model.py", "save", tmp_path / "exp", tmp_path / "x")
    assert result.returncode == 1 and "the first 1 layers alone" in result.stderr
    assert not (tmp_path / "x").exists() and "Traceback" not in result.stderr


def test_memory_of_a_step(place: Path, tmp_path: Path) -> None:
    def estimate(**changes: object) -> dict[str, float]:
        settings: dict[str, object] = {
            "corpus_dir": place / "corpus",
            "teacher_source": place / "new",
            "teacher_layers": [2],
            "layer_pairs": "[[block2, layer2]]",
            "num_blocks": 2,
            "hidden_size": 64,
            "conv_channels": 16,
            "output_folder": tmp_path / "exp",
            "back_end": "{channels: [16, 16, 16, 16, 48]}",
        }
        words = [w for key, value in (settings | changes).items() for w in (f"--{key}", value)]
        result = run("-m", MEMORY, "hparams/ssl/transformer_wavlm_large.yaml", *words)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    whole, half = estimate(batch_size=128), estimate(batch_size=64)
    assert whole["student_activations"] == pytest.approx(2 * half["student_activations"], abs=0.002)
    assert whole["student_weights_and_optimiser"] == half["student_weights_and_optimiser"]
    frozen = estimate(batch_size=128, train_front_end=False)
    assert frozen["student_activations"] < 0.8 * whole["student_activations"]
    # The first convolution's output: 128 crops of 9599 frames and 16 channels, three times.
    assert whole["teacher_activations"] == pytest.approx(3 * 128 * 9599 * 16 * 4 / 1e9, abs=0.001)
    assert whole["total"] > whole["student_activations"] + whole["teacher_activations"]
