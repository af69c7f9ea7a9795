"""Recordings as a model hears them: mono blocks at its rate, whatever the file is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from speechbrain_ext.errors import UserError
from speechbrain_ext.runtime.resampling import resample
from speechbrain_ext.sound import AudioFault, Level, check_sample_rate, open_audio

#: Seconds below which no speaker is told from another; the networks have no frame or two of it.
SHORTEST = 0.1
_BLOCK = 16_000  # samples of an array that are worked on at once


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording as a model hears it.

    Arguments
    ---------
    samples : np.ndarray
        (samples,) float32, mono, at the model's rate.
    seconds : float
        Of all of it.
    seconds_of_speech : float
        Of what the gate takes for speech.
    vad : str
        The gate: ``silero`` or ``energy``.
    """

    samples: np.ndarray
    seconds: float
    seconds_of_speech: float
    vad: str


Audio = str | os.PathLike[str] | np.ndarray | Recording


class UnusableAudio(UserError):
    """A recording that cannot be used.

    Arguments
    ---------
    name : str
        What it is called.
    fault : AudioFault
        The cause in a word, and what was found.
    """

    def __init__(self, name: str, fault: AudioFault) -> None:
        super().__init__(
            f"{name} cannot be used ({fault.cause}: {fault.detail}): give a recording of speech",
            code="unusable-audio",
        )
        self.name, self.cause, self.detail = name, fault.cause, fault.detail

    def called(self, name: str) -> UnusableAudio:
        """The same of a recording that is called otherwise."""
        return UnusableAudio(name, AudioFault(self.cause, self.detail))


def signal_blocks(audio: Audio, sample_rate: int | None, rate: int) -> Iterator[np.ndarray]:
    """Give a recording block by block, as a model hears it.

    Arguments
    ---------
    audio : str, path, np.ndarray or Recording
        A file, or samples (samples,): floating-point numbers in [-1, 1], or 16-bit integers.
    sample_rate : int, optional
        Of samples, in Hz; ``rate`` by default. Files tell theirs.
    rate : int
        What the model hears, in Hz.

    Yields
    ------
    np.ndarray
        (samples,) float32, mono, at ``rate``.

    Raises
    ------
    UnusableAudio
        When it is empty, silent, too short, damaged, or holds a sample that is not finite. Some of
        that is known at the end alone.
    UserError
        When it is neither a path nor an array of one dimension.

    Example
    -------
    >>> noise = np.random.default_rng(0).normal(0, 0.1, 8000)
    >>> sum(len(block) for block in signal_blocks(noise, 8000, 16000))
    16000
    >>> list(signal_blocks(np.zeros(8000), 8000, 16000))
    Traceback (most recent call last):
    speechbrain_ext.runtime.hearing.UnusableAudio: the samples cannot be used (silent: all samples \
are the same): give a recording of speech
    """
    if isinstance(audio, Recording):
        audio, sample_rate = audio.samples, rate
    if not isinstance(audio, str | os.PathLike | np.ndarray):
        raise UserError(
            f"a {type(audio).__name__} is no recording: give a path, or samples as a NumPy array",
            code="bad-samples",
        )
    try:
        if isinstance(audio, np.ndarray):
            given = rate if sample_rate is None else sample_rate
            yield from _resampled(_array_blocks(audio), given, rate)
            return
        with open_audio(audio) as sound:
            yield from _resampled(sound.blocks(seconds=1), sound.header.sample_rate, rate)
    except AudioFault as fault:
        name = "the samples" if isinstance(audio, np.ndarray) else os.fspath(audio)
        raise UnusableAudio(name, fault) from None


def _array_blocks(samples: np.ndarray) -> Iterator[np.ndarray]:
    if samples.ndim != 1:
        raise UserError(
            f"samples of shape {samples.shape} are no waveform: give one channel, (samples,)",
            code="bad-samples",
        )
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / 32768
    if not np.issubdtype(samples.dtype, np.floating):
        raise UserError(
            f"samples of {samples.dtype} have no known scale: give numbers in [-1, 1] or int16",
            code="bad-samples",
        )
    for start in range(0, len(samples), _BLOCK):
        with np.errstate(over="ignore"):  # what is too large for float32 is refused
            block = samples[start : start + _BLOCK].astype(np.float32, copy=False)
        finite = np.isfinite(block)
        if not finite.all():
            first = start + int(np.argmin(finite))
            raise AudioFault("not_finite", f"the sample {first} is {float(samples[first])}")
        yield block


def _resampled(blocks: Iterator[np.ndarray], given: int, rate: int) -> Iterator[np.ndarray]:
    check_sample_rate(given)
    level, heard = Level(), 0

    def listened() -> Iterator[np.ndarray]:
        nonlocal heard
        for block in blocks:
            level.add(block)
            heard += len(block)
            yield block

    yield from resample(listened(), int(given), rate)
    if not heard:
        raise AudioFault("empty", "no samples")
    level.check()
    if heard < SHORTEST * given:
        raise AudioFault("too_short", f"{heard / given:.3f} s, and {SHORTEST} s are the least")
