"""From a speaker to a folder of recordings."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from speechbrain_ext.channels.acoustics import Wave
from speechbrain_ext.corpora.flac import write_speech
from speechbrain_ext.corpora.mini.channels import SAMPLE_RATE, draw_channel, transmit
from speechbrain_ext.corpora.mini.engine import Espeak, data_folder
from speechbrain_ext.corpora.mini.options import MiniOptions, SpeakerTask, utterance_path
from speechbrain_ext.corpora.mini.speakers import (
    InventedSpeaker,
    draw_speaker,
    sentence,
    voice_file_text,
)

# Branches of the seed: nothing that is drawn in one is drawn again in another.
BRANCHES = {"dev": 1, "test": 2, "babble": 3, "trials": 4, "noise": 5, "rir": 6, "noise babble": 7}
_SILENCE = 0.01  # amplitude under which the synthesiser says nothing
_BABBLE_SECONDS = 20


def random_generator(options: MiniOptions, name: str, *numbers: int) -> np.random.Generator:
    """Give the random generator of one part of the corpus, independent of the order of work."""
    return np.random.default_rng([options.seed, BRANCHES[name], *numbers])


def samples_of(wave: Wave) -> npt.NDArray[np.int16]:
    """A wave in -1..1 as 16-bit integers; libsndfile would round it otherwise."""
    return np.round(wave * 32767).astype(np.int16)


def _resample(wave: np.ndarray, rate: int, warp: float) -> Wave:
    """Bring to 16 kHz; a ``warp`` over 1 also raises every frequency by that factor."""
    # A ratio to 400 is exact to a third of a percent, and the filters stay short.
    down = 400
    return resample_poly(wave.astype(np.float64), round(down * SAMPLE_RATE / rate / warp), down)


def speak(
    engine: Espeak,
    speaker: InventedSpeaker,
    voice_file: Path,
    samples: int,
    rate: float,
    rng: np.random.Generator,
) -> Wave:
    """Let a speaker say sentences until the time is over.

    Arguments
    ---------
    engine : Espeak
        The synthesiser.
    speaker : InventedSpeaker
        Who speaks.
    voice_file : Path
        The speaker's voice on that day.
    samples : int
        How long, at 16 kHz.
    rate : float
        Words a minute.
    rng : numpy.random.Generator
        The utterance's chance.

    Returns
    -------
    numpy.ndarray
        (samples,), without noise or room.
    """
    # One step of eSpeak NG's pitch is a factor of about 1.0104.
    pitch = float(np.clip(50 + rng.normal(0, 0.04) / 0.0104, 20, 80))
    pieces: list[Wave] = []
    length = 0
    while length < samples:
        spoken = engine.say(
            sentence(rng),
            voice_file,
            rate=float(np.clip(rate / speaker.warp, 100, 260)),
            pitch=pitch,
            pitch_range=float(np.clip(rng.normal(50, 8), 20, 90)),
        )
        loud = np.flatnonzero(np.abs(spoken) > _SILENCE)
        if not len(loud):
            continue
        pieces.append(_resample(spoken[loud[0] : loud[-1] + 1], engine.sample_rate, speaker.warp))
        pieces.append(np.zeros(int(rng.uniform(0.05, 0.25) * SAMPLE_RATE)))
        length += len(pieces[-2]) + len(pieces[-1])
    wave = np.concatenate(pieces)[:samples]
    fade = SAMPLE_RATE // 40
    wave[-fade:] *= np.linspace(1, 0, fade)  # the last word is cut off, without a click
    return wave


def make_babble(options: MiniOptions, name: str, seconds: float, *numbers: int) -> Wave:
    """Let six people talk at once, none of whom is a speaker of the corpus.

    Arguments
    ---------
    options : MiniOptions
        For the seed.
    name : str
        One of ``BRANCHES``.
    seconds : float
        How long.
    *numbers : int
        Further numbers that the seed is made of.

    Returns
    -------
    numpy.ndarray
        (samples,), of any loudness.
    """
    samples = int(seconds * SAMPLE_RATE)
    wave = np.zeros(samples)
    engine_seed = int(random_generator(options, name, *numbers).integers(2**31))
    with tempfile.TemporaryDirectory() as folder, Espeak(engine_seed) as engine:
        for person in range(6):
            rng = random_generator(options, name, *numbers, person)
            speaker = draw_speaker(rng, "fm"[person % 2])
            voice_file = Path(folder, f"voice{person}")
            voice_file.write_text(voice_file_text(speaker, rng, data_folder()), encoding="utf-8")
            wave += speak(engine, speaker, voice_file, samples, speaker.rate, rng)
    return wave


@functools.lru_cache(maxsize=1)
def _corpus_babble(options: MiniOptions) -> Wave:
    return make_babble(options, "babble", _BABBLE_SECONDS)


def render_speaker(options: MiniOptions, task: SpeakerTask, partial: Path, out: Path) -> None:
    """Make all recordings of a speaker; the folder appears when it is whole.

    Arguments
    ---------
    options : MiniOptions
        Size and seed.
    task : SpeakerTask
        Which speaker.
    partial : Path
        A folder on the same disk as ``out`` for unfinished work.
    out : Path
        The corpus folder; ``out/<split>/<speaker>`` is made.
    """
    babble = _corpus_babble(options)
    rng = random_generator(options, task.split, task.index)
    speaker = draw_speaker(rng, task.sex)
    work = partial / task.name
    shutil.rmtree(work, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory() as voices,
        Espeak(int(rng.integers(2**31))) as engine,
    ):
        for session in range(options.sessions):
            rng = random_generator(options, task.split, task.index, session)
            voice_file = Path(voices, f"session{session}")
            voice_file.write_text(voice_file_text(speaker, rng, data_folder()), encoding="utf-8")
            channel = draw_channel(rng)
            session_rate = speaker.rate * float(np.exp(rng.normal(0, 0.08)))
            for utterance in range(options.utterances):
                seconds = rng.uniform(options.min_seconds, options.max_seconds)
                rate = session_rate * float(np.exp(rng.normal(0, 0.03)))
                speech = speak(engine, speaker, voice_file, int(seconds * SAMPLE_RATE), rate, rng)
                path = partial / utterance_path(task.name, session, utterance)
                write_speech(path, samples_of(transmit(speech, channel, babble, rng)))
    final = out / task.split / task.name
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(work, final)
