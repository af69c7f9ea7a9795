"""The features that published models read, by the toolkits they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from speechbrain_ext.errors import UserError

#: What models are trained on, by the toolkit; None is the waveform itself.
FEATURES: dict[str, dict[str, Any] | None] = {
    "wespeaker": {"window": "hamming", "scale": 32768.0},
    "3d-speaker": {"window": "povey", "scale": 1.0},
    "waveform": None,
}
#: The input of files that say nothing of themselves, as these toolkits name it.
INPUTS = {"feats": "wespeaker", "feature": "3d-speaker"}
#: What ``normalize_samples`` says of them: whether they are numbers of 16 bits or lie in [-1, 1].
SCALES = {"0": 32768.0, "1": 1.0}

Fbank = Callable[[np.ndarray], np.ndarray]


def framework_of(properties: Mapping[str, str], name: str, axes: int) -> str | None:
    """The toolkit of a file, by its metadata, or by the name and the axes of its input.

    Example
    -------
    >>> framework_of({}, "feats", 3), framework_of({}, "wav", 2), framework_of({}, "x", 3)
    ('wespeaker', 'waveform', None)
    """
    if axes == 2:
        return "waveform"
    return properties.get("framework") or INPUTS.get(name)


def filter_bank(rate: int, bands: int, window: str, scale: float) -> Fbank:
    """Kaldi's filter bank by the package kaldi-native-fbank, less its mean over time.

    Frames of 25 ms every 10 ms, from 20 Hz up, without dither.

    Arguments
    ---------
    rate : int
        Samples per second.
    bands : int
        F.
    window : str
        ``hamming`` or ``povey``.
    scale : float
        Factor of samples in [-1, 1].

    Returns
    -------
    callable
        Maps (samples,) to (T, F), float32.

    Raises
    ------
    UserError
        When the package is not installed.

    Example
    -------
    >>> fbank = filter_bank(16000, 80, "povey", 1.0)
    >>> fbank(np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)).shape
    (98, 80)
    """
    try:
        import kaldi_native_fbank as kaldi
    except ModuleNotFoundError:
        raise UserError(
            "a model that reads features needs the package kaldi-native-fbank: pip install "
            "kaldi-native-fbank, or give a waveform.onnx",
            code="missing-package",
        ) from None
    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = window
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = bands
    options.mel_opts.low_freq, options.mel_opts.high_freq = 20.0, 0.0

    def compute(samples: np.ndarray) -> np.ndarray:
        # Less than a frame is filled up to one, as the recipe's own filter bank does.
        missing = max(0, rate // 40 - len(samples))
        bank = kaldi.OnlineFbank(options)
        bank.accept_waveform(rate, np.pad(samples * np.float32(scale), (0, missing)))
        bank.input_finished()
        frames = np.stack([bank.get_frame(t) for t in range(bank.num_frames_ready)])
        return frames - frames.mean(axis=0)

    return compute
