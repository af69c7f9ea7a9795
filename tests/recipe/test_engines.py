"""An exported student in the engines themselves: what PyTorch gives on the features of each."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.lobes.kaldi_fbank import KaldiFbank
from speechbrain_ext.systems.experiment import load_encoder
from tests.recipe.experiments import make_experiment
from tests.recipe.test_export import run_export
from tests.recipe.tiny import make_corpus
from tests.refusals import refused
from tools import check_engines

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_corpus(tmp_path_factory.mktemp("corpora") / "tones")
    entry = {"name": "valid", "title": "tones", "set": "valid", "file": "trials/valid.txt"}
    content = {"corpus": "tones", "title": "Tones", "synthetic": True, "trials": [entry]}
    (folder / "manifests" / "manifest.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def experiment(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_experiment(tmp_path_factory.mktemp("exp") / "v5_quarter", "v5_quarter")
    run_export(folder, "--formats", "onnx", "--manifests", corpus / "manifests")
    return folder


def recordings(corpus: Path) -> list[np.ndarray]:
    """Two of one speaker, and one of another."""
    names = ("id050/s0/0", "id050/s1/1", "id053/s0/0")
    return [soundfile.read(corpus / "valid" / f"{n}.wav", dtype="float32")[0] for n in names]


def by_pytorch(experiment: Path, wav: np.ndarray, **front_end: Any) -> np.ndarray:
    """The embedding of a recording, on the features of an engine."""
    encoder = load_encoder(experiment)
    encoder.compute_features = KaldiFbank(**front_end)
    with torch.no_grad():
        return encoder(torch.from_numpy(wav).unsqueeze(0)).flatten().numpy()


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize(
    ("engine", "front_end"),
    [
        ("sherpa-onnx", {"high_freq": -400, "snip_edges": False}),
        ("WeSpeaker", {"window": "hamming", "scale": 32768}),
        ("pyannote", {"window": "hamming", "scale": 32768}),
    ],
)
def test_an_engine_gives_what_pytorch_gives_on_its_features(
    experiment: Path, corpus: Path, engine: str, front_end: dict[str, Any]
) -> None:
    package, make = check_engines.ENGINES[engine]
    pytest.importorskip(package)
    embed = make(experiment / "export" / "speaker-embedding.onnx")
    for wav in recordings(corpus):
        expected = by_pytorch(experiment, wav, **front_end)
        np.testing.assert_allclose(embed(wav), expected, atol=1e-3)


def test_the_manager_of_sherpa_onnx(experiment: Path, corpus: Path) -> None:
    """It goes by the same cosines."""
    sherpa = pytest.importorskip("sherpa_onnx")
    embed = check_engines.sherpa_onnx(experiment / "export" / "speaker-embedding.onnx")
    first, same, _ = map(embed, recordings(corpus))
    manager = sherpa.SpeakerEmbeddingManager(8)
    assert manager.add("first", first)
    score = cosine(first, same)
    assert manager.verify("first", same, threshold=score - 1e-4)
    assert not manager.verify("first", same, threshold=score + 1e-4)


def test_openvino(experiment: Path, corpus: Path) -> None:
    openvino = pytest.importorskip("openvino")
    model, exact = experiment / "export" / "waveform.onnx", {"INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.Core().compile_model(str(model), "CPU", exact)
    encoder = load_encoder(experiment)
    for wav in recordings(corpus):
        with torch.no_grad():
            expected = encoder(torch.from_numpy(wav)[None]).flatten().numpy()
        np.testing.assert_allclose(network({"wav": wav[None]})["embs"][0], expected, atol=1e-3)


WEB = """
const ort = require("onnxruntime-web"), fs = require("fs");
const [model, ...files] = process.argv.slice(1);
(async () => {
    const session = await ort.InferenceSession.create(fs.readFileSync(model));
    for (const file of files) {
        const samples = new Float32Array(new Uint8Array(fs.readFileSync(file)).buffer);
        const wav = new ort.Tensor("float32", samples, [1, samples.length]);
        const { embs } = await session.run({ wav });
        console.log(JSON.stringify([...embs.data]));
    }
})();
"""


def test_a_browsers_engine(experiment: Path, corpus: Path, tmp_path: Path) -> None:
    """onnxruntime-web under Node, where npm has put it into a folder of NODE_PATH."""
    node = shutil.which("node")
    found = node and subprocess.run(
        [node, "-e", 'require.resolve("onnxruntime-web")'], capture_output=True, check=False
    )
    if not node or not found or found.returncode != 0:
        pytest.skip("no onnxruntime-web in a folder of NODE_PATH")
    encoder, files, expected = load_encoder(experiment), [], []
    for number, wav in enumerate(recordings(corpus)):
        files.append(tmp_path / f"{number}.raw")
        files[-1].write_bytes(wav.tobytes())
        with torch.no_grad():
            expected.append(encoder(torch.from_numpy(wav)[None]).flatten().numpy())
    command = [node, "-e", WEB, experiment / "export" / "waveform.onnx", *files]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
    embeddings = [json.loads(line) for line in done.stdout.splitlines()]
    np.testing.assert_allclose(np.array(embeddings), np.stack(expected), atol=1e-3)


def test_every_engine_decides_on_trials(
    experiment: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sherpa_onnx")
    pytest.importorskip("kaldi_native_fbank")
    out = tmp_path / "engines.json"
    check_engines.main([*map(str, (experiment / "export", corpus / "manifests", "--out", out))])
    said, found = capsys.readouterr().out, json.loads(out.read_text())
    assert {"waveform.onnx", "sherpa-onnx", "WeSpeaker"} <= found.keys()
    for name, (trials,) in found.items():
        assert trials["trials"] == "valid" and 0 <= trials["eer"] <= 100
        # Its network is untrained: other features, other scores, but of the same recordings.
        assert (trials["score_difference"] == 0) is (name == "waveform.onnx")
        assert f"| {name} | tones | {trials['eer']:.2f} |" in said
    with refused("missing-file", "speaker-embedding.int8.onnx"):
        check_engines.main(
            [*map(str, (experiment / "export", corpus / "manifests", "--out", out))]
            + ["--precision", "int8"]
        )
