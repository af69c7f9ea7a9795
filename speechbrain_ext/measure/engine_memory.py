"""Peak memory of one utterance in an engine, in a process of its own.

    python -m speechbrain_ext.measure.engine_memory FILE SECONDS THREADS

FILE is an ONNX graph that reads waveforms, or an encoder that ``torch.save`` wrote, which runs code
when it is loaded. What is printed is a number: megabytes above those of the process with its
engine, before it read the file.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from speechbrain_ext.formats import SAMPLE_RATE


def peak_megabytes(file: Path, seconds: float, threads: int) -> float | None:
    """Embed one utterance of so many seconds in a new process, and read what it printed.

    Linux alone says it; elsewhere it is None.

    Example
    -------
    >>> import torch
    >>> path = getfixture("tmp_path") / "mean.pt"
    >>> torch.save(torch.nn.AdaptiveAvgPool1d(1), path)
    >>> 0 <= peak_megabytes(path, seconds=1.0, threads=1) < 100
    True
    """
    if sys.platform != "linux":
        return None
    command = [sys.executable, "-m", __spec__.name, str(file), str(seconds), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _session(file: str, threads: int) -> Callable[[], Callable[[np.ndarray], object]]:
    import onnxruntime

    def load() -> Callable[[np.ndarray], object]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        return lambda wav: session.run(None, {given.name: wav})

    return load


def _encoder(file: str, threads: int) -> Callable[[], Callable[[np.ndarray], object]]:
    import torch

    import speechbrain_ext.lobes.encoders  # noqa: F401  what the file will want of SpeechBrain

    torch.set_num_threads(threads)

    def load() -> Callable[[np.ndarray], object]:
        encoder = torch.load(file, weights_only=False)

        def embed(wav: np.ndarray) -> object:
            with torch.inference_mode():
                return encoder(torch.from_numpy(wav))

        return embed

    return load


def _megabytes(name: str) -> float:
    """``VmRSS``, what the process has, or ``VmHWM``, the most that it had."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) / 1000
    raise ValueError(f"/proc/self/status has no {name}")


def main() -> None:
    """Print the megabytes."""
    file, seconds, threads = sys.argv[1:]
    wav = np.zeros((1, round(float(seconds) * SAMPLE_RATE)), np.float32)
    wav += 0.1 * np.random.default_rng(0).standard_normal(wav.shape, np.float32)
    engine = _session if file.endswith(".onnx") else _encoder
    load = engine(file, int(threads))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget what imports needed
    before = _megabytes("VmRSS")
    load()(wav)
    print(_megabytes("VmHWM") - before)


if __name__ == "__main__":
    main()
