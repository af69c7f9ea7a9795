"""Seconds of speech: the same in any blocks; by silero-vad's network where it is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from speechbrain_ext.runtime.speech import EnergyGate, SileroGate, silero_path, speech_gate
from tests.runtime.models import RATE, voice


class Network:
    """As silero-vad's: a frame is speech where it is loud, and its state counts them."""

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        frames = given["input"]
        assert names == ["speech_probs", "hn", "cn"] and frames.shape[1:] == (576,)
        assert len(frames) <= 512 and frames.dtype == np.float32
        loud = np.abs(frames[:, 64:]).max(axis=1) > 0.1
        return [loud.astype(np.float32), given["h"] + len(frames), given["c"]]


@pytest.mark.parametrize("size", [100, 511, 16000, 400000])
@pytest.mark.parametrize("kind", ["energy", "silero"])
def test_blocks_of_any_size_are_one_recording(kind: str, size: int) -> None:
    samples = voice(1, seconds=25.0)
    whole, parts = (
        EnergyGate(RATE) if kind == "energy" else SileroGate(Network())  # type: ignore[arg-type]
        for _ in range(2)
    )
    whole.add(samples)
    for start in range(0, len(samples), size):
        parts.add(samples[start : start + size])
    assert whole.seconds() == parts.seconds() and 14 < whole.seconds() < 22
    assert whole.name == kind


def test_even_noise_and_too_little_are_no_speech() -> None:
    gate = EnergyGate(RATE)
    assert gate.seconds() == 0
    gate.add(np.ones(100, dtype=np.float32))
    assert gate.seconds() == 0
    gate.add(np.random.default_rng(0).normal(0, 0.1, 5 * RATE).astype(np.float32))
    assert gate.seconds() < 0.5


def test_the_package_is_found_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> SimpleNamespace:
        return SimpleNamespace(submodule_search_locations=[str(tmp_path)])

    monkeypatch.setattr(importlib.util, "find_spec", found)
    assert silero_path() is None  # an older one, without this network
    network = tmp_path / "data" / "silero_vad_16k_sequence.onnx"
    network.parent.mkdir()
    network.touch()
    assert silero_path() == network


@pytest.mark.skipif(silero_path() is None, reason="silero-vad is not installed")
def test_tones_are_no_speech_to_silero() -> None:
    gate = speech_gate(RATE)
    assert gate.name == "silero"
    gate.add(voice(1))
    assert gate.seconds() < 4
