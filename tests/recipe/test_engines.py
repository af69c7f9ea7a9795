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


def test_sherpa_onnx(experiment: Path, corpus: Path) -> None:
    """Its extractor embeds, and its manager goes by the same cosines."""
    sherpa = pytest.importorskip("sherpa_onnx")
    model = str(experiment / "export" / "speaker-embedding.onnx")
    extractor = sherpa.SpeakerEmbeddingExtractor(
        sherpa.SpeakerEmbeddingExtractorConfig(model=model)
    )
    assert extractor.dim == 8
    found = []
    for wav in recordings(corpus):
        stream = extractor.create_stream()
        stream.accept_waveform(16000, wav)
        stream.input_finished()
        found.append(np.array(extractor.compute(stream), np.float32))
        expected = by_pytorch(experiment, wav, high_freq=-400, snip_edges=False)
        np.testing.assert_allclose(found[-1], expected, atol=1e-3)
    manager = sherpa.SpeakerEmbeddingManager(extractor.dim)
    assert manager.add("first", found[0])
    score = cosine(found[0], found[1])
    assert manager.verify("first", found[1], threshold=score - 1e-4)
    assert not manager.verify("first", found[1], threshold=score + 1e-4)


def test_the_pipeline_of_wespeaker(experiment: Path, corpus: Path) -> None:
    """Its inference: Hamming windows, 16-bit numbers, the features' mean taken off, ``feats``."""
    knf = pytest.importorskip("kaldi_native_fbank")
    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "hamming"
    options.frame_opts.samp_freq = 16000
    options.mel_opts.num_bins = 80
    session = onnxruntime.InferenceSession(experiment / "export" / "speaker-embedding.onnx")
    for wav in recordings(corpus):
        bank = knf.OnlineFbank(options)
        bank.accept_waveform(16000, (wav * 32768).tolist())
        bank.input_finished()
        feats = np.stack([bank.get_frame(n) for n in range(bank.num_frames_ready)])
        feats = (feats - feats.mean(axis=0))[None].astype(np.float32)
        (found,) = session.run(["embs"], {"feats": feats})
        expected = by_pytorch(experiment, wav, window="hamming", scale=32768)
        np.testing.assert_allclose(found[0], expected, atol=1e-3)


def test_diarization_loads_it_as_one_of_wespeakers(
    experiment: Path, corpus: Path, tmp_path: Path
) -> None:
    """pyannote goes by words of the path, so this test's name has none of them."""
    pipelines = pytest.importorskip("pyannote.audio.pipelines.speaker_verification")
    model = tmp_path / "wespeaker" / "speaker-embedding.onnx"
    model.parent.mkdir()
    shutil.copy(experiment / "export" / model.name, model)
    embed = pipelines.PretrainedSpeakerEmbedding(str(model))
    assert (embed.sample_rate, embed.dimension, embed.metric) == (16000, 8, "cosine")
    for wav in recordings(corpus):
        found = embed(torch.from_numpy(wav)[None, None])[0]
        expected = by_pytorch(experiment, wav, window="hamming", scale=32768)
        np.testing.assert_allclose(found, expected, atol=1e-3)


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
