"""The features that models of one file read, where they do not read the waveform."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from speechbrain_ext.errors import UserError

Fbank = Callable[[np.ndarray], np.ndarray]


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
        One of :data:`~speechbrain_ext.formats.WINDOWS`.
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
