"""A model folder of a few numbers: the same tones are the same speaker. And what it hears."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechbrain_ext.decisions import Calibration, Decisions, OperatingPoint

onnx = pytest.importorskip("onnx")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT

RATE, DIM = 16000, 16
BANDS = 200 * 1.25 ** np.arange(DIM)  # Hz
POINTS = (
    OperatingPoint("eer", 0.03, 0.5, 300, True),
    OperatingPoint("false_alarm_0.01", 0.01, 0.7, 100, True),
    OperatingPoint("false_alarm_0.001", 0.001, 0.8, 10, True),
    OperatingPoint("false_alarm_0.0001", 0.0001, 0.9, 1, False),
)
CALIBRATION = Calibration(-8.0, {"score": 10.0, "duration": 0.5, "norm": 0.1, "cohort": -1.0}, 0.05)


def write_graph(path: Path, seed: int = 0) -> Path:
    """Waveforms (B, S) to the logarithms of their energy in bands, (B, 16), less the mean."""
    generator = np.random.default_rng(seed)
    times = np.arange(400) / RATE
    waves = 2 * np.pi * np.outer(BANDS * generator.uniform(0.99, 1.01, DIM), times)
    window = np.hanning(400)
    kernel = np.concatenate((np.cos(waves) * window, np.sin(waves) * window))[:, None]
    constants = {
        "kernel": kernel.astype(np.float32),
        "axis": np.array([1], dtype=np.int64),
        "floor": np.array(1e-3, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["wav", "axis"], ["line"]),
        helper.make_node("Conv", ["line", "kernel"], ["bands"], strides=[160]),
        helper.make_node("Mul", ["bands", "bands"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["means"], axes=[2], keepdims=0),
        helper.make_node("Split", ["means"], ["cosines", "sines"], axis=1),
        helper.make_node("Add", ["cosines", "sines"], ["energy"]),
        helper.make_node("Add", ["energy", "floor"], ["positive"]),
        helper.make_node("Log", ["positive"], ["levels"]),
        helper.make_node("ReduceMean", ["levels"], ["middle"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["levels", "middle"], ["embs"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bands",
        [helper.make_tensor_value_info("wav", FLOAT, ["B", "S"])],
        [helper.make_tensor_value_info("embs", FLOAT, ["B", DIM])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def make_model(folder: Path, seed: int = 0, **facts: Any) -> Path:
    """Write a model folder with operating points, a calibration and a cohort."""
    write_graph(folder / "waveform.onnx", seed)
    cohort = np.random.default_rng(seed).normal(size=(40, DIM))
    cohort /= np.linalg.norm(cohort, axis=1, keepdims=True)
    np.save(folder / "cohort.npy", cohort.astype(np.float16))
    decisions = Decisions({"title": "tones"}, CALIBRATION, POINTS).tree()
    facts = {"title": "tones", "embedding_size": DIM, "decisions": decisions, "files": [], **facts}
    write_facts(folder, facts)
    return folder


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Write ``model.json`` with the digests of what is there."""
    facts["sha256"] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "model.json"
    }
    (folder / "model.json").write_text(json.dumps(facts), encoding="utf-8")


def voice(speaker: int, take: int = 0, seconds: float = 4.0, rate: int = RATE) -> np.ndarray:
    """A speaker's recording: three tones of its own, which come and go, in noise of the take."""
    generator = np.random.default_rng([speaker, take])
    tones = np.random.default_rng(speaker).choice(BANDS, 3, replace=False)
    times = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * tone * times + generator.uniform(0, 6)) for tone in tones)
    loud = np.clip(np.sin(2 * np.pi * times / 1.3) * 20 + 15, 0, 1)
    noise = generator.normal(0, 0.003, len(times))
    samples: np.ndarray = (0.2 * loud * sound + noise).astype(np.float32)
    return samples
