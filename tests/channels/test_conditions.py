"""Conditions do to a recording what they say, and the same to the same recording."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ext.channels.acoustics import speech_power, spoken_frames
from speechbrain_ext.channels.conditions import (
    Babble,
    Chain,
    Clipped,
    ColouredNoise,
    Condition,
    Excerpt,
    Hum,
    Loudness,
    Room,
    Sent,
)
from speechbrain_ext.channels.transmission import G711, MP3, Codec, Opus


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def speechlike(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Half a second of nothing, then harmonics that come and go."""
    time = np.arange(round(seconds * 16000)) / 16000
    pitch = 100 + 15 * seed
    wave = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 30))
    wave = wave * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)) * (time >= 0.5)
    return (0.1 * wave).astype(np.float32)


def voices(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    return [speechlike(1.5, seed=1 + number) for number in range(count)]


@pytest.mark.parametrize("snr", [0, 10, 20])
@pytest.mark.parametrize(
    "noise",
    [
        lambda snr: ColouredNoise("white", snr),
        lambda snr: ColouredNoise("pink", snr),
        lambda snr: ColouredNoise("brown", snr),
        lambda snr: Hum(snr),
        lambda snr: Babble(snr),
    ],
)
def test_noise_is_so_far_below_the_speech(noise: Callable[[float], Condition], snr: float) -> None:
    clean = speechlike()
    added = noise(snr)(clean, generator(), voices) - clean
    ratio = 10 * np.log10(speech_power(clean) / (added**2).mean())
    assert ratio == pytest.approx(snr, abs=0.01)


def test_hum_is_at_the_overtones_of_the_mains() -> None:
    added = Hum(10.0)(speechlike(), generator(), voices) - speechlike()
    spectrum = np.abs(np.fft.rfft(added[:16000])) ** 2  # a bin a hertz
    assert spectrum[50::50].sum() > 0.999 * spectrum.sum()


def test_a_cut_begins_with_speech_and_a_short_recording_stays() -> None:
    clean = speechlike(4.0)
    starts = set()
    for seed in range(20):
        part = Excerpt(1.0)(clean, generator(seed), voices)
        assert len(part) == 16000 and spoken_frames(part)[0]
        starts.add(part.tobytes())
    assert len(starts) > 3
    assert np.array_equal(Excerpt(9.0)(clean, generator(), voices), clean)
    assert Excerpt(4.0).spares(4.0) and not Excerpt(3.9).spares(4.0)


def test_a_room_keeps_the_direct_sound_in_its_place() -> None:
    click = np.zeros(16000, np.float32)
    click[100] = 1.0
    heard = Room(0.4, -3.0)(click, generator(), voices)
    assert heard[100] == pytest.approx(1.0) and not np.abs(heard[:100]).max() > 1e-6
    tail = heard[101:]
    assert 10 * np.log10((tail**2).sum()) == pytest.approx(3.0, abs=0.01)
    early, late = (tail[start : start + 800] for start in (200, 5000))
    decay = 10 * np.log10((early**2).sum() / (late**2).sum())
    assert decay == pytest.approx(60 * 0.3 / 0.4, abs=4)


def test_levels_and_clipping() -> None:
    clean = speechlike()
    quiet = Loudness(-40.0)(clean, generator(), voices)
    assert np.abs(quiet - clean / 100).max() <= 0.5 / 2**15 + 1e-9
    assert len(np.unique(quiet)) < 300  # what is left of 16 bits
    assert Loudness(40.0)(clean, generator(), voices).max() == 1 - 1 / 2**15
    cut = Clipped(12.0)(clean, generator(), voices)
    assert np.abs(cut).max() == pytest.approx(np.abs(clean).max() / 10**0.6)


@pytest.mark.parametrize(
    "codec", [Opus(8), Opus(12), Opus(16), Opus(24), MP3(40), MP3(64)], ids=repr
)
def test_codecs_take_the_bits_that_they_say(codec: Codec) -> None:
    said = {"Opus": (8, 12, 16, 24), "MP3": (40, 64)}[type(codec).__name__]
    wave, file = speechlike(4.0) + 0.01 * generator().normal(size=64000), io.BytesIO()
    kind = {"format": codec.format, "subtype": codec.encoder}
    soundfile.write(file, wave, 16000, **kind, **codec.settings)
    kilobits = len(file.getvalue()) * 8 / 4 / 1000
    level = codec.settings["compression_level"]
    wanted = 256 - 250 * level if type(codec) is Opus else 160 - 152 * level
    assert round(wanted) in said
    assert kilobits == pytest.approx(wanted, rel=0.3)


@pytest.mark.parametrize("codec", [Opus(8), MP3(40)], ids=repr)
def test_codecs_of_few_bits_keep_the_place_of_the_sound(codec: Codec) -> None:
    clean = speechlike(3.0) + (0.01 * generator().normal(size=48000)).astype(np.float32)
    heard = Sent(codec)(clean, generator(), voices)
    assert heard.shape == clean.shape and heard.dtype == np.float32
    spectra = np.fft.rfft(clean, 96000), np.fft.rfft(heard, 96000)
    assert np.fft.irfft(spectra[0].conj() * spectra[1]).argmax() in (0, 1, 95999)


@pytest.mark.parametrize(
    "condition",
    [
        Excerpt(1),
        ColouredNoise("pink", 5),
        Hum(5),
        Babble(5),
        Room(0.3, 0),
        Sent(G711("ALAW")),
        Chain([Room(0.5, 0), ColouredNoise("white", 10), Loudness(-20)]),
    ],
    ids=lambda condition: type(condition).__name__,
)
def test_the_same_chance_gives_the_same(condition: Condition) -> None:
    clean = speechlike()
    kept, state = clean.copy(), torch.get_rng_state()
    once, again = (condition(clean, generator(3), voices) for _ in range(2))
    assert np.array_equal(once, again) and np.isfinite(once).all()
    assert np.array_equal(clean, kept) and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda: Excerpt(0), "seconds"),
        (lambda: ColouredNoise("blue", 3), "blue"),
        (lambda: Room(0, 3), "decay"),
        (lambda: Hum(3, 0), "hertz"),
        (lambda: Opus(6), "6.5"),
        (lambda: MP3(16), "40"),
        (lambda: Clipped(-6), "decibels"),
    ],
)
def test_values_that_cannot_be(make: Callable[[], object], fact: str) -> None:
    with pytest.raises(ValueError, match=fact):
        make()


def test_a_chain_needs_what_its_steps_need() -> None:
    assert Chain([Loudness(0), Babble(3)]).needs_voices and not Chain([Loudness(0)]).needs_voices
    assert Chain([Excerpt(2), Excerpt(3)]).spares(1.5) and not Chain(
        [Excerpt(2), Loudness(0)]
    ).spares(1.5)
