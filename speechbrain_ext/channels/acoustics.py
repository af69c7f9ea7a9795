"""Noise and rooms made on the spot, and how loud speech is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from speechbrain_ext.formats import SAMPLE_RATE

Wave = npt.NDArray[np.float64]


def coloured_noise(kind: str, samples: int, rng: np.random.Generator) -> Wave:
    """Make white, pink or brown noise of unit power.

    Example
    -------
    >>> noise = coloured_noise("pink", 16000, np.random.default_rng(0))
    >>> noise.shape, round(float(noise.std()), 3)
    ((16000,), 1.0)
    """
    decay = {"white": 0.0, "pink": 0.5, "brown": 1.0}[kind]
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    # Flat below 20 Hz, or brown noise would be nothing but rumble.
    wave = np.fft.irfft(spectrum * np.maximum(hertz, 20.0) ** -decay, samples)
    return wave / wave.std()


def draw_room(rng: np.random.Generator) -> Wave:
    """Make a room's impulse response, the direct sound at sample 0 with amplitude 1.

    Returns
    -------
    numpy.ndarray
        (taps,): noise that decays by 60 dB in 0.12 to 0.5 s, 0 to 12 dB under the direct sound.
    """
    return room_response(rng.uniform(0.12, 0.5), None, rng)


def room_response(decay: float, direct: float | None, rng: np.random.Generator) -> Wave:
    """Make a room's impulse response, the direct sound at sample 0 with amplitude 1.

    Arguments
    ---------
    decay : float
        Seconds in which its reverberation falls by 60 dB; the response is as long.
    direct : float, optional
        Level of the direct sound over the reverberation in dB; drawn from 0 to 12 by default.
    rng : numpy.random.Generator
        Draws the reverberation, which is noise that begins after 1 to 6 ms.

    Returns
    -------
    numpy.ndarray
        (taps,)

    Example
    -------
    >>> response = room_response(0.5, -3.0, np.random.default_rng(0))
    >>> response.shape, round(float(10 * np.log10((response[1:] ** 2).sum())), 3)
    ((8000,), 3.0)
    """
    taps = int(decay * SAMPLE_RATE)
    tail = rng.standard_normal(taps) * np.logspace(0, -3, taps)
    tail[: int(rng.uniform(0.001, 0.006) * SAMPLE_RATE)] = 0.0  # the first wall is some way off
    level = rng.uniform(0, 12) if direct is None else direct
    tail *= 10 ** (-level / 20) / np.linalg.norm(tail)
    tail[0] = 1.0
    return tail


def spoken_frames(wave: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Which frames of 20 ms of a waveform (samples,) hold speech: within 25 dB of the loudest.

    Example
    -------
    >>> spoken_frames(np.concatenate((np.ones(640), np.zeros(400)))).tolist()
    [True, True, False]
    """
    power = _frame_powers(wave)
    return power >= power.max() / 10**2.5


def speech_power(wave: npt.NDArray[np.floating]) -> float:
    """Mean power of a waveform (samples,) where somebody speaks, pauses left out.

    Example
    -------
    >>> speech_power(np.concatenate((np.ones(640), np.zeros(640))))
    1.0
    """
    return float(_frame_powers(wave)[spoken_frames(wave)].mean())


def _frame_powers(wave: npt.NDArray[np.floating]) -> Wave:
    """Of whole frames; of a waveform shorter than one, of that."""
    size = SAMPLE_RATE // 50
    if len(wave) < size:
        return np.array([(wave**2).mean()])
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    return (frames**2).mean(axis=1)
