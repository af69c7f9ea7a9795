"""Utterances at other speeds: what they are called, and crops of them.

At a speed other than 1 the voice is another one, so an utterance is another speaker's there:
``id001/a`` of ``id001`` at 1.1 is ``id001/a@sp1.1`` of ``id001@sp1.1``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from speechbrain.augment.time_domain import Resample
from torch import Tensor


def at_speed(name: str, speed: float) -> str:
    """The name of an utterance or a speaker at a speed.

    Example
    -------
    >>> at_speed("id001/a", 1.0), at_speed("id001/a", 1.1)
    ('id001/a', 'id001/a@sp1.1')
    """
    return name if speed == 1 else f"{name}@sp{speed:g}"


def original_first(speeds: Sequence[float]) -> list[float]:
    """The speeds in their order, but 1 before all others.

    Raises
    ------
    ValueError
        When they are no list of different positive numbers with 1 among them.

    Example
    -------
    >>> original_first([0.9, 1.0, 1.1])
    [1.0, 0.9, 1.1]
    """
    # Two decimals, because the filter of a resampler grows with the terms of its ratio.
    if (
        not isinstance(speeds, Sequence)
        or not all(isinstance(s, (int, float)) and 0 < round(s, 2) == s < 100 for s in speeds)
        or len(set(speeds)) < len(speeds)
        or 1 not in speeds
    ):
        raise ValueError(
            "speeds must be a list of different positive numbers, of two decimals at most and 1.0 "
            f"among them, such as [0.9, 1.0, 1.1], got {speeds}"
        )
    return sorted(speeds, key=lambda speed: speed != 1)


def samples_before(samples: int, speed: float) -> int:
    """How many samples of an utterance it takes to fill so many when it is played at a speed.

    Example
    -------
    >>> samples_before(16000, 1.1)
    17600
    """
    return math.ceil(samples * round(100 * speed) / 100)


def play(signal: Tensor, speed: float) -> Tensor:
    """Play a waveform (samples,) at a speed.

    Example
    -------
    >>> import torch
    >>> len(play(torch.randn(17600), 1.1))
    16000
    """
    return _player(round(100 * speed))(signal[None])[0]


def fill_crop(signal: Tensor, samples: int, speed: float = 1.0) -> Tensor:
    """Make a crop (samples,) of a piece of an utterance: played at a speed, repeated if too short.

    Example
    -------
    >>> import torch
    >>> fill_crop(torch.tensor([1.0, 2.0, 3.0]), 5)
    tensor([1., 2., 3., 1., 2.])
    """
    played = play(signal, speed)
    return played.repeat(-(-samples // len(played)))[:samples]


@functools.cache
def _player(percent: int) -> Resample:
    # What SpeechBrain's SpeedPerturb is made of; that draws a speed itself, by a state that a
    # training which is run again does not have.
    return Resample(orig_freq=percent, new_freq=100)
