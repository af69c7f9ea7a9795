"""What lies between a mouth and a file: microphone, room, background noise, level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve, firwin2

from speechbrain_ext.channels.acoustics import Wave, coloured_noise, draw_room, speech_power
from speechbrain_ext.formats import SAMPLE_RATE as SAMPLE_RATE

NOISE_KINDS = ("white", "pink", "brown", "babble")
_EQUALISER_TAPS = 513


@dataclass(frozen=True)
class Channel:
    """The recording conditions of one session."""

    response: Wave  # equaliser and room together, (taps,)
    delay: int  # samples by which ``response`` is late
    noise: str  # one of NOISE_KINDS
    snr_db: float
    level_db: float  # of the whole recording, re full scale


def _draw_equaliser(rng: np.random.Generator) -> Wave:
    """Make a microphone's response: wavy by about 3 dB, a band pass, (taps,)."""
    hertz = np.linspace(0, SAMPLE_RATE / 2, 257)
    # A cosine series over a warped axis: as wavy in the first kilohertz as in the last four.
    axis = np.log1p(hertz / 300) / np.log1p(SAMPLE_RATE / 2 / 300)
    gain_db = np.zeros_like(hertz)
    for order in (1, 2, 3):
        depth, phase = rng.normal(0, 3 / np.sqrt(order)), rng.uniform(0, 2 * np.pi)
        gain_db += depth * np.cos(np.pi * order * axis + phase)
    low_cut = rng.uniform(40, 250)
    gain_db -= 10 * np.log10(1 + (low_cut / np.maximum(hertz, 1.0)) ** 4)
    if rng.random() < 0.6:
        gain_db -= 10 * np.log10(1 + (hertz / rng.uniform(3300, 7800)) ** 16)
    return firwin2(_EQUALISER_TAPS, hertz, 10 ** (gain_db / 20), fs=SAMPLE_RATE)


def draw_channel(rng: np.random.Generator) -> Channel:
    """Invent the recording conditions of a session."""
    response = _draw_equaliser(rng)
    if rng.random() < 0.6:
        response = fftconvolve(response, draw_room(rng))
    return Channel(
        response=response,
        delay=_EQUALISER_TAPS // 2,
        noise=NOISE_KINDS[rng.integers(len(NOISE_KINDS))],
        snr_db=float(rng.uniform(5, 20)),
        level_db=float(rng.uniform(-28, -18)),
    )


def transmit(speech: Wave, channel: Channel, babble: Wave, rng: np.random.Generator) -> Wave:
    """Pass clean speech through a channel.

    Arguments
    ---------
    speech : numpy.ndarray
        (samples,), at 16 kHz, not silent.
    channel : Channel
        The session's recording conditions.
    babble : numpy.ndarray
        (samples of any number,): many people talking, for channels that have it as their noise.
    rng : numpy.random.Generator
        The utterance's chance: which stretch of noise, and the voice's loudness.

    Returns
    -------
    numpy.ndarray
        (samples,), in -1..1.
    """
    heard = fftconvolve(speech, channel.response)[channel.delay :][: len(speech)]
    if channel.noise == "babble":
        start = rng.integers(len(babble))
        noise = babble.take(np.arange(start, start + len(heard)), mode="wrap")
        noise = noise / noise.std()
    else:
        noise = coloured_noise(channel.noise, len(heard), rng)
    snr = 10 ** ((channel.snr_db + rng.normal(0, 1.5)) / 10)
    mixed = heard + noise * np.sqrt(speech_power(heard) / snr)
    loudness = 10 ** (channel.level_db / 20) / np.sqrt((mixed**2).mean())
    return np.clip(mixed * loudness, -1.0, 1.0)
