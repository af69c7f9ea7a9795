"""Audio of any format, sample rate and number of channels, as the models hear it: mono, 16 kHz."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable, Iterator

import numpy as np

from speechbrain_ext.errors import brought_by
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.sound import AudioFault, Level, check_speech, needs_ffmpeg, open_audio

with brought_by("train"):
    import torch
    import torchaudio
    from torch import Tensor

# torchaudio keeps a filter for each of these phases: 44,100 Hz has 160 of 475 numbers.
_MAX_FILTER = 20_000_000


def read_audio(path: str | os.PathLike[str], start: int = 0, stop: int | None = None) -> Tensor:
    """Read a file or a section of it, mix it down to mono and resample it to 16 kHz.

    What SpeechBrain's ``AudioNormalizer`` makes of it, the mean of the channels and torchaudio's
    resampling, but in blocks: of a long file only the mono signal at 16 kHz is held as a whole.

    Arguments
    ---------
    path : str or path
        A format of libsndfile, or one of ``DECODED`` where ffmpeg is on PATH.
    start, stop : int, optional
        The section, in samples at 16 kHz. In a file of that rate nothing else is decoded.

    Returns
    -------
    Tensor
        Samples (samples,), float32.

    Raises
    ------
    AudioFault
        When the file is empty, is damaged or cut, holds a sample that is not finite, cannot be
        decoded, or ends before ``stop``; and a whole file, when no speech can be in it.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> import soundfile
    >>> soundfile.write(path, torch.rand(800, 2), 8000)
    >>> read_audio(path).shape, read_audio(path, 800, 900).shape
    (torch.Size([1600]), torch.Size([100]))
    """
    level = Level()

    def heard(blocks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        for block in blocks:
            level.add(block)
            yield torch.from_numpy(block)

    with open_audio(path) as sound:
        rate = sound.header.sample_rate
        if rate != SAMPLE_RATE and _filter_size(rate) > _MAX_FILTER:
            raise AudioFault(
                "sample_rate",
                f"{rate} Hz is costly to resample: "
                f"convert it, for instance `ffmpeg -i IN -ac 1 -ar {SAMPLE_RATE} OUT.flac`",
            )
        if stop is not None and rate == SAMPLE_RATE and not needs_ffmpeg(path):
            wav = torch.from_numpy(sound.section(start, stop))
        else:
            # The level is that of the file: resampled, a constant has a click at either end.
            wav = torch.cat(list(resample_blocks(heard(sound.blocks()), rate)))
            if (start, stop) == (0, None):
                level.check()
            wav = wav[start:stop]
    if stop is not None and len(wav) < stop - start:
        raise AudioFault("unreadable", f"ends after {start + len(wav)} of {stop} samples")
    return wav


def read_utterance(path: str | os.PathLike[str], start: int = 0, stop: int | None = None) -> Tensor:
    """Read a whole utterance, a file or a section of it: what :func:`read_audio` gives.

    Raises
    ------
    AudioFault
        As :func:`read_audio`, and when no speech can be in it, be it a file or a section.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> import soundfile
    >>> soundfile.write(path, torch.cat((torch.rand(800), torch.zeros(800))), 16000)
    >>> read_utterance(path, 0, 800).shape
    torch.Size([800])
    >>> read_utterance(path, 800, 1600)
    Traceback (most recent call last):
        ...
    speechbrain_ext.sound.AudioFault: ('silent', 'all samples are the same')
    """
    wav = read_audio(path, start, stop)
    if stop is not None:
        check_speech(wav.numpy())
    return wav


def resample_blocks(blocks: Iterable[Tensor], rate: int) -> Iterator[Tensor]:
    """Resample a signal to 16 kHz block by block, as torchaudio does the whole of it.

    Arguments
    ---------
    blocks : iterable of Tensor
        (samples,) each; all but the last are ``rate`` times a whole number long.
    rate : int
        Samples per second of the blocks.

    Yields
    ------
    Tensor
        The signal at 16 kHz, in pieces.

    Example
    -------
    >>> [len(piece) for piece in resample_blocks([torch.zeros(8000), torch.zeros(100)], 8000)]
    [16000, 200]
    """
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    before = torch.empty(0)
    source = iter(blocks)
    current = next(source, torch.empty(0))
    while len(current):
        following = next(source, torch.empty(0))
        # A second on either side is more than the filter reaches, and whole samples at both rates.
        with torch.no_grad():
            resampled = _resampler(rate)(torch.cat((before, current, following[:rate])))
        first = len(before) * SAMPLE_RATE // rate
        yield resampled[first : first + math.ceil(len(current) * SAMPLE_RATE / rate)]
        before, current = current[-rate:], following


@functools.lru_cache(maxsize=16)
def _resampler(rate: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(rate, SAMPLE_RATE)


def _filter_size(rate: int) -> int:
    common = math.gcd(rate, SAMPLE_RATE)
    old, new = rate // common, SAMPLE_RATE // common
    return new * (old + 2 * math.ceil(6 * old / (0.99 * min(old, new))))
