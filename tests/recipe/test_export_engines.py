"""Files for other engines: they embed as PyTorch does, say what they are, or are not written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.recipe.experiments import make_experiment
from tests.recipe.test_export import run_export
from tests.recipe.tiny import make_corpus
from tests.refusals import refused

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from speechbrain_ext.export import engine_files  # noqa: E402
from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank  # noqa: E402
from speechbrain_ext.systems.experiment import load_encoder  # noqa: E402

ALL = ("waveform", "speaker-embedding")
ENDINGS = (".onnx", ".fp16.onnx", ".int8.onnx")


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_corpus(tmp_path_factory.mktemp("corpora") / "tones") / "manifests"
    entry = {"name": "valid", "title": "tones", "set": "valid", "file": "trials/valid.txt"}
    content = {"corpus": "tones", "title": "Tones", "synthetic": True, "trials": [entry]}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def exported(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of Kaldi's filter bank, exported in every format."""
    experiment = make_experiment(tmp_path_factory.mktemp("exp") / "v5_quarter", "v5_quarter")
    run_export(experiment, "--formats", "int8", "fp16", "onnx", "--manifests", manifests)
    return experiment


def refuse(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The sentence with which an export ends."""
    with pytest.raises(SystemExit) as stop:
        run_export(*arguments)
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def run(path: Path, **given: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, given)
    return found


@pytest.mark.parametrize("samples", [8000, 16001, 60000])
def test_both_graphs_embed_as_pytorch_does(exported: Path, samples: int) -> None:
    """Of a length and a batch that the graphs were not traced at."""
    encoder, folder = load_encoder(exported), exported / "export"
    wavs = 0.1 * torch.randn(3, samples)
    with torch.no_grad():
        expected = encoder(wavs).squeeze(1).numpy()
        feats = encoder.compute_features(wavs).numpy()
    found = run(folder / "waveform.onnx", wav=wavs.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4)
    found = run(folder / "speaker-embedding.onnx", feats=feats)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_neither_the_samples_scale_nor_a_mean_that_is_taken_off_counts(exported: Path) -> None:
    """Engines differ in both."""
    wavs = 0.1 * torch.randn(1, 16000)
    feats = KaldiFbank()(wavs)
    variants = [feats, KaldiFbank(scale=32768)(wavs), feats - feats.mean(dim=1, keepdim=True)]
    path = exported / "export" / "speaker-embedding.onnx"
    one, *others = (run(path, feats=each.numpy()) for each in variants)
    for other in others:
        np.testing.assert_allclose(other, one, atol=1e-4)


def test_int8_is_smaller_and_near(exported: Path) -> None:
    wavs = (0.1 * torch.randn(1, 32000)).numpy()
    folder = exported / "export"
    fp32, int8 = (run(folder / f"waveform{end}", wav=wavs)[0] for end in (".onnx", ".int8.onnx"))
    assert fp32 @ int8 / np.linalg.norm(fp32) / np.linalg.norm(int8) > 0.98
    assert not np.array_equal(fp32, int8)
    graph = onnx.load(folder / "speaker-embedding.int8.onnx").graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    # So that two products add up in 16 bits, on processors that do it so.
    tables = [onnx.numpy_helper.to_array(each) for each in graph.initializer]
    weights = [each for each in tables if each.dtype == np.int8 and each.ndim > 1]
    assert weights and max(np.abs(each.astype(int)).max() for each in weights) == 64


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_is_what_engines_ask_for(exported: Path, name: str, ending: str) -> None:
    """One input and one output, named axes, standard operators of opset 17, sherpa-onnx's facts."""
    model = onnx.load(exported / "export" / f"{name}{ending}")
    (given,), (found,) = model.graph.input, model.graph.output
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (given, found)
    ]
    expected = (["B", "S"], "wav") if name == "waveform" else (["B", "T", 80], "feats")
    assert (shapes[0], given.name) == expected and (shapes[1], found.name) == (["B", 8], "embs")
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 17)}
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["framework"] == "wespeaker" and facts["output_dim"] == "8"
    assert facts["sample_rate"] == "16000" and facts["normalize_samples"] == "1"
    assert facts["window_type"] == "povey"


def test_model_json_says_what_was_measured(exported: Path) -> None:
    folder = exported / "export"
    facts = json.loads((folder / "model.json").read_text())
    assert facts["embedding_size"] == 8 and facts["sample_rate"] == 16000
    names = {f"{name}{ending}" for name in ALL for ending in ENDINGS}
    assert {file["file"] for file in facts["files"]} == names
    digests = facts["sha256"]
    others = {"hyperparams.yaml", "embedding_model.ckpt", "classifier.ckpt", "label_encoder.ckpt"}
    assert names < digests.keys() and digests.keys() - names == others
    for name, digest in digests.items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    for file in facts["files"]:
        assert file["bytes"] == (folder / file["file"]).stat().st_size and not file["in_float"]
        seconds = [each["seconds"] for each in file["parity"]]
        assert seconds == [0.5, 1, 2, 5, 20, 60]
        least = {"fp32": 0.9999, "fp16": 0.999, "int8": 0.99}[file["precision"]]
        assert all(each["cosine"] >= least for each in file["parity"])
        (trials,) = file["trials"]
        assert trials["trials"] == "valid" and 0 <= trials["eer"] <= 100
        assert f"`{file['file']}`" in (folder / "README.md").read_text()


def test_fp16_is_half_the_size_and_near(exported: Path) -> None:
    wavs = (0.1 * torch.randn(1, 32000)).numpy()
    paths = [exported / "export" / f"waveform{end}" for end in (".onnx", ".fp16.onnx")]
    fp32, fp16 = (run(path, wav=wavs)[0] for path in paths)
    np.testing.assert_allclose(fp16, fp32, atol=0.02 * np.abs(fp32).max())
    assert not np.array_equal(fp32, fp16)
    sizes = [(exported / f"export/speaker-embedding{end}").stat().st_size for end in ENDINGS[:2]]
    assert sizes[1] < 0.7 * sizes[0]


def test_int8_leaves_layers_in_float_that_cost_most(
    manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel whose scale is its own takes the steps of all others of its tensor."""
    experiment = make_experiment(tmp_path / "v5_quarter", "v5_quarter")
    path = experiment / "save" / "embedding_model.safetensors"
    weights = load_file(path)
    with safe_open(path, "pt") as file:
        about = file.metadata()
    name = "blocks.0.channel_mixing.fc1"
    weights[f"{name}.bias"][0] += 3e4  # of a value whose gate is shut
    weights[f"{name}.weight"][0] = 0
    weights["blocks.0.channel_mixing.fc2.weight"][:, 0] = 0
    save_file(weights, path, about)
    run_export(experiment, "--formats", "int8", "--manifests", manifests)
    facts = json.loads((experiment / "export" / "model.json").read_text())
    for file in facts["files"]:
        assert 0 < len(file["in_float"]) <= engine_files.MOST_IN_FLOAT
        assert any("channel_mixing" in name for name in file["in_float"])
        assert min(each["cosine"] for each in file["parity"]) >= 0.99
    readme = (experiment / "export" / "README.md").read_text()
    assert f"`{facts['files'][0]['in_float'][0]}`" in readme


def test_int8_needs_speech_to_be_scaled_by(
    manifests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "v2")
    shutil.copytree(manifests, tmp_path / "manifests")
    lines = (manifests / "train.csv").read_text().splitlines(keepends=True)
    (tmp_path / "manifests" / "train.csv").write_text("".join(lines[:4]))
    line = refuse(capsys, experiment, "--formats", "int8", "--manifests", tmp_path / "manifests")
    assert "has 3 utterances" in line and "leave int8 out of --formats" in line
    assert not (experiment / "export").exists()
    run_export(experiment, "--manifests", tmp_path / "manifests")  # nobody asked for INT8
    assert "SpeechBrain alone: " in capsys.readouterr().out
    assert not list((experiment / "export").glob("*.onnx"))


def test_a_full_disk_leaves_the_folder_of_before(
    manifests: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def save(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    experiment = make_experiment(tmp_path / "v2")
    run_export(experiment, "--formats", "none")
    before = json.loads((experiment / "export" / "model.json").read_text())
    monkeypatch.setattr(onnx, "save", save)
    capsys.readouterr()
    assert "No space left" in refuse(capsys, experiment, "--manifests", manifests)
    assert json.loads((experiment / "export" / "model.json").read_text()) == before
    assert [path.name for path in experiment.iterdir() if "export" in path.name] == ["export"]


def test_a_student_of_other_features_reads_waveforms_alone(
    manifests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "v2")
    run_export(experiment, "--formats", "onnx", "--manifests", manifests)
    assert "no engine computes the features" in capsys.readouterr().out
    assert [path.name for path in (experiment / "export").glob("*.onnx")] == ["waveform.onnx"]
    wavs = 0.1 * torch.randn(2, 12345)
    with torch.no_grad():
        expected = load_encoder(experiment)(wavs).squeeze(1).numpy()
    found = run(experiment / "export" / "waveform.onnx", wav=wavs.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_lstm_leaves_pytorch_too(manifests: Path, tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path / "teacher", "teacher")
    run_export(experiment, "--formats", "onnx", "--manifests", manifests)
    wavs = 0.1 * torch.randn(2, 12345)
    with torch.no_grad():
        expected = load_encoder(experiment)(wavs).squeeze(1).numpy()
    found = run(experiment / "export" / "waveform.onnx", wav=wavs.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_not_near_enough_is_not_written(
    manifests: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    experiment = make_experiment(tmp_path / "v2")
    run_export(experiment, "--formats", "none")
    before = sorted(path.name for path in (experiment / "export").iterdir())
    monkeypatch.setitem(engine_files.LEAST_COSINE, "int8", 1.1)
    capsys.readouterr()
    line = refuse(capsys, experiment, "--formats", "int8", "--manifests", manifests)
    assert "waveform.int8.onnx" in line and "leave int8 out of --formats" in line
    assert sorted(path.name for path in (experiment / "export").iterdir()) == before


def test_a_model_from_elsewhere_needs_speech(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "v2")
    settings = (experiment / "hyperparams.yaml").read_text()
    lines = [line for line in settings.splitlines() if not line.startswith("train_csv:")]
    (experiment / "hyperparams.yaml").write_text("\n".join(lines))
    line = refuse(capsys, experiment, "--formats", "onnx")
    assert str(experiment) in line and "by --manifests" in line


@pytest.mark.parametrize("low", [0.0, 0.3])
def test_a_file_that_decides_worse_is_refused_by_its_interval(low: float) -> None:
    trials: dict[str, Any] = {"title": "tones", "difference": 0.4}
    trials["difference_interval_95"] = [low, 0.9]
    file = {"file": "waveform.int8.onnx", "precision": "int8", "trials": [trials]}
    if low < engine_files.MOST_POINTS:
        engine_files._check_decisions(file)
        return
    with refused("other-embeddings", "waveform.int8.onnx", "tones +0.40 points"):
        engine_files._check_decisions(file)
