"""How many seconds of a recording are speech: by silero-vad's network where it is installed."""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime

SILERO, ENERGY = "silero", "energy"
# What silero-vad's network hears: 16 kHz, in frames of 32 ms, each with the 4 ms before it.
_RATE, _FRAME, _BEFORE, _STATE = 16000, 512, 64, (1, 1, 128)
_FRAMES_AT_ONCE = 512
# A frame is speech where it is this near to the loud ones and this far above the quiet ones, in dB.
_BELOW_LOUD, _ABOVE_QUIET = 30.0, 6.0


class SpeechGate(Protocol):
    """Counts the speech in a recording that it hears block by block."""

    name: str

    def add(self, block: np.ndarray) -> None:
        """Hear a block (samples,)."""

    def seconds(self) -> float:
        """Seconds of speech in all that was heard."""


def speech_gate(rate: int) -> SpeechGate:
    """The best gate that is installed, for one recording.

    Arguments
    ---------
    rate : int
        Samples per second of the recording.

    Returns
    -------
    SpeechGate
        silero-vad's for 16 kHz, where the package is installed, 6.2.3 or newer; else
        :class:`EnergyGate`.

    Example
    -------
    >>> speech_gate(8000).name
    'energy'
    """
    network = _silero_network() if rate == _RATE else None
    return EnergyGate(rate) if network is None else SileroGate(network)


def silero_path() -> Path | None:
    """The network of the package silero-vad, which is not imported: it would import PyTorch."""
    package = importlib.util.find_spec("silero_vad")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "data" / "silero_vad_16k_sequence.onnx"
        if path.is_file():
            return path
    return None


@functools.cache
def _silero_network() -> onnxruntime.InferenceSession | None:
    path = silero_path()
    if path is None:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # it warns of its own unused constants
    return onnxruntime.InferenceSession(os.fspath(path), options, ["CPUExecutionProvider"])


class SileroGate:
    """Speech is where silero-vad's network finds it likelier than not.

    Arguments
    ---------
    network : onnxruntime.InferenceSession
        Of :func:`silero_path`.
    """

    name = SILERO

    def __init__(self, network: onnxruntime.InferenceSession) -> None:
        self._network = network
        self._h = self._c = np.zeros(_STATE, dtype=np.float32)
        self._rest = np.zeros(_BEFORE, dtype=np.float32)  # what is before the next frame, and on
        self._speech = 0

    def add(self, block: np.ndarray) -> None:
        """Hear a block (samples,) at 16 kHz."""
        heard = np.concatenate((self._rest, block))
        while (frames := min((len(heard) - _BEFORE) // _FRAME, _FRAMES_AT_ONCE)) > 0:
            self._run(heard[: _BEFORE + frames * _FRAME])
            heard = heard[frames * _FRAME :]
        self._rest = heard

    def seconds(self) -> float:
        """Seconds of speech in all that was heard, less than a frame at the end left out."""
        return self._speech * _FRAME / _RATE

    def _run(self, heard: np.ndarray) -> None:
        windows = np.lib.stride_tricks.sliding_window_view(heard, _BEFORE + _FRAME)[::_FRAME]
        likely, self._h, self._c = self._network.run(
            ["speech_probs", "hn", "cn"],
            {"input": np.ascontiguousarray(windows), "h": self._h, "c": self._c},
        )
        self._speech += int((likely >= 0.5).sum())


class EnergyGate:
    """Speech is what is near to the loud frames of 30 ms in level, and well above the quiet ones.

    It takes any sound that comes and goes for speech.

    Arguments
    ---------
    rate : int
        Samples per second.

    Example
    -------
    >>> gate = EnergyGate(16000)
    >>> noise = np.random.default_rng(0).normal(size=16000)
    >>> gate.add(np.concatenate((0.1 * noise, 0.001 * noise)))
    >>> round(gate.seconds(), 1)
    1.0
    """

    name = ENERGY

    def __init__(self, rate: int) -> None:
        self._rate, self._frame = rate, rate * 30 // 1000
        self._rest = np.zeros(0, dtype=np.float32)
        self._levels: list[np.ndarray] = []  # in dB, of each frame

    def add(self, block: np.ndarray) -> None:
        """Hear a block (samples,)."""
        heard = np.concatenate((self._rest, block))
        whole = len(heard) // self._frame * self._frame
        frames = heard[:whole].reshape(-1, self._frame)
        self._levels.append(20 * np.log10(frames.std(axis=1) + 1e-6))
        self._rest = heard[whole:]

    def seconds(self) -> float:
        """Seconds of speech in all that was heard, less than a frame at the end left out."""
        levels = np.concatenate(self._levels) if self._levels else np.zeros(0)
        if not len(levels):
            return 0.0
        quiet, loud = np.percentile(levels, [10, 95])
        speech = levels >= max(loud - _BELOW_LOUD, min(quiet + _ABOVE_QUIET, loud))
        return float(speech.sum()) * self._frame / self._rate
