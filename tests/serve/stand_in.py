"""A model with a mean spectrum in place of a network: the same tones are the same speaker.

As a program it serves it: ``python -m tests.serve.stand_in --gallery FILE``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from speechbrain_ext.decisions import Decisions, OperatingPoint
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.runtime import Gallery, SpeakerModel
from speechbrain_ext.runtime.heard import Heard
from speechbrain_ext.serve.run import demo, run
from speechbrain_ext.service_limits import ServiceLimits

DECISIONS = Decisions(
    {"title": "tones"},
    None,
    (
        OperatingPoint("eer", 0.03, 0.5, 300, True),
        OperatingPoint("false_alarm_0.01", 0.01, 0.7, 100, True),
        OperatingPoint("false_alarm_0.001", 0.001, 0.8, 10, True),
        OperatingPoint("false_alarm_0.0001", 0.0001, 0.9, 1, False),
    ),
)


class StandIn(SpeakerModel):
    """All of it is the runtime's but the network, and what is speech: everything is.

    Arguments
    ---------
    gate : Path, optional
        A file that it waits for before it embeds anything.
    decisions : Decisions, optional
        What it decides by.
    """

    def __init__(self, gate: Path | None = None, decisions: Decisions | None = DECISIONS) -> None:
        engine: Any = SimpleNamespace(
            sample_rate=SAMPLE_RATE, dim=32, name="/models/stand-in.onnx", embed=spectra
        )
        folder: Any = SimpleNamespace(facts={})
        super().__init__(engine, folder, "5" * 64, decisions)
        self._gate = gate

    def hear(self, audio: Any, sample_rate: int | None = None) -> Heard:
        while self._gate and not self._gate.exists():
            time.sleep(0.01)
        seconds = len(audio) / self.sample_rate
        return Heard(self.embed(audio, sample_rate), seconds, seconds, "energy")


def spectra(waveforms: np.ndarray) -> np.ndarray:
    """The embedding (1, 32) of a waveform (1, samples)."""
    frames = np.resize(waveforms[0], (max(waveforms.size // 512, 1), 512))
    bands = np.abs(np.fft.rfft(frames)).mean(axis=0)[1:].reshape(32, 8).mean(axis=1)
    logarithms = np.log(bands + 1e-3)
    return (logarithms - logarithms.mean())[None].astype(np.float32)


def main() -> None:
    """Serve the stand-in on a free port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gallery", type=Path)
    parser.add_argument("--gate", type=Path)
    parser.add_argument("--idle-seconds", type=int, default=ServiceLimits.idle_seconds)
    parser.add_argument("--connections", type=int, default=ServiceLimits.connections)
    parser.add_argument("--key")
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--undecided", action="store_true", help="without thresholds")
    options = parser.parse_args()
    model = StandIn(options.gate, None if options.undecided else DECISIONS)
    gallery = Gallery.open(options.gallery, model) if options.gallery else None
    if options.demo:
        demo(model, gallery=gallery, browser=False)
    else:
        limits = ServiceLimits(connections=options.connections, idle_seconds=options.idle_seconds)
        run(model, port=0, gallery=gallery, key=options.key, limits=limits)


if __name__ == "__main__":
    main()
