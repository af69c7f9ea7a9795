"""Conditions under which a model is tried: what each does to a whole recording.

A condition is a frozen dataclass, so that its ``repr`` says all that it does. It maps a waveform
(samples,) of 16 kHz to another; what it draws comes from the generator that it is given. A YAML
names conditions by their classes, so one of your own is a class like these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import fftconvolve
from torch import nn

from speechbrain_ext.channels.acoustics import (
    Wave,
    coloured_noise,
    room_response,
    speech_power,
    spoken_frames,
)
from speechbrain_ext.formats import SAMPLE_RATE

_FRAME = SAMPLE_RATE // 50
_STEPS = 2**15  # of 16 bits, on either side of 0

#: Gives so many recordings (samples,) of persons other than the one who is heard.
Voices = Callable[[int, np.random.Generator], list[np.ndarray]]


class Condition(ABC):
    """What may happen to a recording."""

    #: Whether others are heard as well.
    needs_voices = False

    @abstractmethod
    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        """Change a recording.

        Arguments
        ---------
        wav : np.ndarray
            (samples,) in -1..1, at 16 kHz, not silent.
        rng : np.random.Generator
            All chance comes from it.
        voices : callable
            For those that ``needs_voices``.

        Returns
        -------
        np.ndarray
            (samples,), as many or fewer.
        """

    def spares(self, seconds: float) -> bool:
        """Whether a recording of that length stays as it is."""
        return False


@dataclass(frozen=True)
class Excerpt(Condition):
    """A stretch of a recording that begins with speech, at a place drawn; a short one stays whole.

    Arguments
    ---------
    seconds : float
        Its length.

    Example
    -------
    >>> wav = np.random.default_rng(0).normal(size=48000)
    >>> len(Excerpt(1.0)(wav, np.random.default_rng(0), list)), len(Excerpt(9)(wav, None, list))
    (16000, 48000)
    """

    seconds: float

    def __post_init__(self) -> None:
        _check_positive("seconds", self.seconds)

    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        """Take a part."""
        samples = round(self.seconds * SAMPLE_RATE)
        latest = len(wav) - samples
        if latest <= 0:
            return wav
        spoken = np.flatnonzero(spoken_frames(wav)) * _FRAME
        start = min(int(rng.choice(spoken)), latest)
        return wav[start : start + samples]

    def spares(self, seconds: float) -> bool:
        """Whether a recording of that length stays as it is."""
        return seconds <= self.seconds


class _Noise(Condition):
    """Noise beside speech, so many decibels below it where somebody speaks."""

    snr: float

    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        """Add it."""
        noise = self.noise(len(wav), rng, voices)
        power = speech_power(wav) / 10 ** (self.snr / 10)
        return wav + noise * np.sqrt(power / (noise**2).mean())

    @abstractmethod
    def noise(self, samples: int, rng: np.random.Generator, voices: Voices) -> Wave:
        """Noise (samples,) of any level."""


@dataclass(frozen=True)
class ColouredNoise(_Noise):
    """White, pink or brown noise: a hiss, a waterfall, a car.

    Arguments
    ---------
    kind : str
        ``white``, ``pink`` or ``brown``.
    snr : float
        Level of the speech over the noise in dB.

    Example
    -------
    >>> speech = np.ones(16000)
    >>> noisy = ColouredNoise("pink", 10.0)(speech, np.random.default_rng(0), list)
    >>> round(float(((noisy - speech) ** 2).mean()), 6)
    0.1
    """

    kind: str
    snr: float

    def __post_init__(self) -> None:
        if self.kind not in ("white", "pink", "brown"):
            raise ValueError(f"kind must be white, pink or brown, got {self.kind}")

    def noise(self, samples: int, rng: np.random.Generator, voices: Voices) -> Wave:
        """Noise of that colour."""
        return coloured_noise(self.kind, samples, rng)


@dataclass(frozen=True)
class Hum(_Noise):
    """Hum of the mains: a tone and its overtones, of which the k-th has 1/k of its amplitude.

    Arguments
    ---------
    snr : float
        Level of the speech over the hum in dB.
    hertz : int
        The tone.
    overtones : int
        How many there are.

    Example
    -------
    >>> Hum(10.0)(np.ones(16000), np.random.default_rng(0), list).shape
    (16000,)
    """

    snr: float
    hertz: int = 50
    overtones: int = 40

    def __post_init__(self) -> None:
        if not (isinstance(self.hertz, int) and self.hertz > 0):
            raise ValueError(f"hertz must be a whole number above 0, got {self.hertz}")

    def noise(self, samples: int, rng: np.random.Generator, voices: Voices) -> Wave:
        """Hum with phases that are drawn."""
        turns = 2 * np.pi * self.hertz * np.arange(SAMPLE_RATE) / SAMPLE_RATE
        tones = [
            np.sin(order * turns + rng.uniform(0, 2 * np.pi)) / order
            for order in range(1, self.overtones + 2)
            if order * self.hertz < SAMPLE_RATE / 2
        ]
        return np.resize(np.sum(tones, axis=0), samples)  # every second is the same


@dataclass(frozen=True)
class Babble(_Noise):
    """Others who speak at once, all as loud, none of them the speaker.

    Arguments
    ---------
    snr : float
        Level of the speech over all the others together in dB.
    voices : int
        How many they are; fewer where the list has no more speakers.

    Example
    -------
    >>> def voices(count, rng):
    ...     return [rng.normal(size=12000) for _ in range(count)]
    >>> Babble(10.0)(np.ones(16000), np.random.default_rng(0), voices).shape
    (16000,)
    """

    snr: float
    voices: int = 12
    needs_voices = True

    def __post_init__(self) -> None:
        _check_positive("voices", self.voices)

    def noise(self, samples: int, rng: np.random.Generator, voices: Voices) -> Wave:
        """Their voices, each from a place that is drawn, over and over."""
        babble = np.zeros(samples)
        for voice in voices(self.voices, rng):
            places = np.arange(samples) + int(rng.integers(len(voice)))
            babble += voice.take(places, mode="wrap") / np.sqrt(speech_power(voice))
        return babble


@dataclass(frozen=True)
class Room(Condition):
    """A simulated room: sound that comes back as noise which dies away.

    Arguments
    ---------
    decay : float
        Seconds in which its reverberation falls by 60 dB.
    direct : float
        Level of the direct sound over the reverberation in dB; below 0 far from the microphone.

    Example
    -------
    >>> Room(0.5, 0.0)(np.ones(16000), np.random.default_rng(0), list).shape
    (16000,)
    """

    decay: float
    direct: float

    def __post_init__(self) -> None:
        if not self.decay > 0.02:
            raise ValueError(f"decay must be above 0.02, got {self.decay}")

    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        """Speak in a room of its own."""
        return fftconvolve(wav, room_response(self.decay, self.direct, rng))[: len(wav)]


@dataclass(frozen=True)
class Loudness(Condition):
    """A file that is louder or quieter: 16 bits a sample, cut off at full scale.

    Arguments
    ---------
    decibels : float
        Relative to the recording.

    Example
    -------
    >>> Loudness(20.0)(np.array([0.01, 0.5]), np.random.default_rng(0), list).round(3).tolist()
    [0.1, 1.0]
    """

    decibels: float

    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        """Scale, round and cut off."""
        scaled = np.round(wav * 10 ** (self.decibels / 20) * _STEPS)
        return np.clip(scaled, -_STEPS, _STEPS - 1) / _STEPS


@dataclass(frozen=True)
class Clipped(Condition):
    """A recording that was too loud for its microphone: cut off below its peak.

    Arguments
    ---------
    decibels : float
        How far below.

    Example
    -------
    >>> Clipped(6.0206)(np.array([0.1, -0.8, 0.3]), None, list).round(3).tolist()
    [0.1, -0.4, 0.3]
    """

    decibels: float

    def __post_init__(self) -> None:
        _check_positive("decibels", self.decibels)

    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        """Cut off."""
        limit = np.abs(wav).max() / 10 ** (self.decibels / 20)
        return np.clip(wav, -limit, limit)


@dataclass(frozen=True)
class Sent(Condition):
    """A recording that went through a line or a codec.

    Arguments
    ---------
    channel : Module
        Maps crops (B, samples) of 16 kHz and relative lengths (B,) to crops, as those of
        :mod:`~speechbrain_ext.channels.transmission` and of ``speechbrain.augment`` do. What it
        draws comes from PyTorch's generator.

    Example
    -------
    >>> from speechbrain_ext.channels.transmission import G711
    >>> Sent(G711("ALAW"))(np.zeros(16000), np.random.default_rng(0), list).shape
    (16000,)
    """

    channel: nn.Module

    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        """Send it."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(int(rng.integers(2**62)))
            sent = self.channel(torch.from_numpy(wav).float().unsqueeze(0), torch.ones(1))
        return sent.squeeze(0).numpy()


@dataclass(frozen=True)
class Chain(Condition):
    """Several conditions, one after another.

    Arguments
    ---------
    steps : sequence of Condition
        In the order in which they happen.

    Example
    -------
    >>> far = Chain([Room(0.5, -3.0), ColouredNoise("pink", 15.0), Loudness(-20.0)])
    >>> far(np.ones(16000), np.random.default_rng(0), list).shape
    (16000,)
    """

    steps: Sequence[Condition]

    def __post_init__(self) -> None:
        if not isinstance(self.steps, Sequence) or not self.steps:
            raise ValueError(f"steps must be a list of conditions, got {self.steps}")

    @property
    def needs_voices(self) -> bool:  # type: ignore[override]
        """Whether others are heard in one of them."""
        return any(step.needs_voices for step in self.steps)

    def __call__(self, wav: np.ndarray, rng: np.random.Generator, voices: Voices) -> np.ndarray:
        """Go through them."""
        for step in self.steps:
            wav = step(wav, rng, voices)
        return wav

    def spares(self, seconds: float) -> bool:
        """Whether all of them leave a recording of that length as it is."""
        return all(step.spares(seconds) for step in self.steps)


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
