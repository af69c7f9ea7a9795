"""What a client sends, as samples: decoded block by block, no further than a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime.hearing import UnusableAudio, signal_blocks
from speechbrain_ext.service_limits import MAX_CHANNELS, MAX_RATE
from speechbrain_ext.sound import AudioFault, open_audio


def decode(recordings: Mapping[str, BinaryIO], seconds: float, rate: int) -> list[np.ndarray]:
    """Decode the recordings of a request.

    The content alone tells the format: what a client calls its file is not used. ffmpeg is never
    started, since what it does to unknown files is more than to decode them.

    Arguments
    ---------
    recordings : mapping
        From what each is called in answers to a temporary file, which is closed. On disk it has no
        name, and is read by its number.
    seconds : float
        Of all recordings together; nothing after it is decoded.
    rate : int
        Of the samples, in Hz.

    Returns
    -------
    list of np.ndarray
        Of each recording (samples,), mono, float32.

    Raises
    ------
    UserError
        When a recording cannot be used, or they are too long.

    Example
    -------
    >>> import soundfile, tempfile
    >>> file = tempfile.TemporaryFile()
    >>> noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    >>> soundfile.write(file, noise, 8000, format="WAV")
    >>> [len(samples) for samples in decode({"a": file}, seconds=10, rate=16000)]
    [16000]
    """
    decoded: list[np.ndarray] = []
    left = int(seconds * rate)
    for name, file in recordings.items():
        file.flush()
        try:
            with file:  # no more than one of them is open for long
                samples = _samples(f"/dev/fd/{file.fileno()}", left, rate)
        except (AudioFault, UnusableAudio) as fault:
            raise UserError(
                f"{name} cannot be used ({fault.detail}): send speech as WAV, FLAC, Ogg, Opus, "
                "MP3, AIFF or AU",
                code="unusable-audio",
            ) from None
        if samples is None:
            raise UserError(
                f"{name} is too long: send at most {seconds:g} s of audio in a request",
                code="too-long",
            )
        left -= len(samples)
        decoded.append(samples)
    return decoded


def _samples(path: str, most: int, rate: int) -> np.ndarray | None:
    """The samples (samples,) of a file; None where there are more than so many."""
    with open_audio(path) as sound:  # a second of more would be too large for memory
        if sound.header.sample_rate > MAX_RATE:
            raise AudioFault("sample_rate", f"{sound.header.sample_rate} samples a second")
        if sound.header.channels > MAX_CHANNELS:
            raise AudioFault("unreadable", f"{sound.header.channels} channels")
    blocks, heard = [], 0
    for block in signal_blocks(path, None, rate):
        heard += len(block)
        if heard > most:
            return None
        blocks.append(block)
    return np.concatenate(blocks)
