"""Noise and rooms to augment training with, none of which occurs in the corpus itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from speechbrain_ext.channels.acoustics import Wave, coloured_noise, draw_room
from speechbrain_ext.corpora.flac import write_speech
from speechbrain_ext.corpora.mini.channels import NOISE_KINDS, SAMPLE_RATE
from speechbrain_ext.corpora.mini.options import MiniOptions
from speechbrain_ext.corpora.mini.render import make_babble, random_generator, samples_of

_FILES_PER_NOISE = 4
_NOISE_SECONDS = 12
_ROOMS = 24


def _noise(options: MiniOptions, kind: str, index: int) -> Wave:
    if kind == "babble":
        wave = make_babble(options, "noise babble", _NOISE_SECONDS, index)
    else:
        rng = random_generator(options, "noise", NOISE_KINDS.index(kind), index)
        wave = coloured_noise(kind, _NOISE_SECONDS * SAMPLE_RATE, rng)
    return np.asarray(wave / np.abs(wave).max() * 0.5)


def _room(options: MiniOptions, index: int) -> Wave:
    return draw_room(random_generator(options, "rir", index)) * 0.9


def augmentation_files(options: MiniOptions) -> dict[str, Callable[[], Wave]]:
    """List the files for augmentation: path below the corpus folder, and what makes its samples.

    Example
    -------
    >>> files = augmentation_files(MiniOptions())
    >>> len(files), files["rir/room_01.flac"]().shape[0] > 1000
    (40, True)
    """
    files: dict[str, Callable[[], Wave]] = {}
    for kind in NOISE_KINDS:
        for index in range(_FILES_PER_NOISE):
            files[f"noise/{kind}_{index + 1:02d}.flac"] = partial(_noise, options, kind, index)
    for index in range(_ROOMS):
        files[f"rir/room_{index + 1:02d}.flac"] = partial(_room, options, index)
    return files


def write_augmentation(options: MiniOptions, out: Path) -> None:
    """Write those files that are not there yet."""
    for name, make in augmentation_files(options).items():
        if not (out / name).exists():
            write_speech(out / name, samples_of(make()))
