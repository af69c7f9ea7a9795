"""Audio of any format, sample rate and number of channels, as the models hear it: mono, 16 kHz."""

from __future__ import annotations

import functools
import math
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import soundfile
import torch
import torchaudio
from speechbrain.dataio import audio_io
from torch import Tensor

from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import AUDIO as AUDIO
from speechbrain_ext.formats import DECODED as DECODED
from speechbrain_ext.formats import READABLE as READABLE

#: Samples per second of everything that the models hear.
SAMPLE_RATE = 16000

_BLOCK_SECONDS = 10
# A header without a length (a stream that was never finished) reads as an absurd number.
_MAX_FRAMES = 2**40
# torchaudio keeps a filter for each of these phases: 44,100 Hz has 160 of 475 numbers.
_MAX_FILTER = 20_000_000


class AudioFault(Exception):
    """Why a file cannot be used.

    Arguments
    ---------
    cause : str
        One word: ``unreadable``, ``empty``, ``not_finite``, ``sample_rate``.
    detail : str
        What was found.
    """

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(cause, detail)  # both, or a process could not hand it to another
        self.cause, self.detail = cause, detail


class AudioHeader(NamedTuple):
    """What the header of a file says: frames (None where it does not), rate in Hz, channels."""

    frames: int | None
    sample_rate: int
    channels: int


def read_header(path: str | os.PathLike[str]) -> AudioHeader | None:
    """Read the header of a file; None for a format that ffmpeg has to decode.

    Raises
    ------
    AudioFault
        When it is empty or cannot be read.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros((800, 2)), 8000)
    >>> read_header(path)
    AudioHeader(frames=800, sample_rate=8000, channels=2)
    """
    if os.fspath(path).lower().endswith(DECODED):
        _checked_size(path)
        return None
    with _opened(path) as audio:
        frames = audio.frames if audio.frames <= _MAX_FRAMES else None
        return AudioHeader(frames, audio.samplerate, audio.channels)


def read_audio(path: str) -> Tensor:
    """Read a mono file of 16 kHz.

    Arguments
    ---------
    path : str
        An audio file that libsndfile reads.

    Returns
    -------
    Tensor
        Samples (samples,), float32.

    Raises
    ------
    UserError
        When it cannot be read, or has another sample rate or several channels.
    """
    try:
        signal, rate = audio_io.load(path)
    except Exception as error:  # libsndfile's wrapper raises several kinds
        raise UserError(f"{path} cannot be read ({error}): mend or remove it") from None
    if rate != SAMPLE_RATE or signal.shape[0] != 1:
        raise UserError(
            f"{path} has {signal.shape[0]} channels at {rate} Hz: "
            f"convert it to mono at {SAMPLE_RATE} Hz"
        )
    return signal[0]


def read_any_audio(path: str | os.PathLike[str]) -> Tensor:
    """Read a whole file, mix it down to mono and resample it to 16 kHz.

    What SpeechBrain's ``AudioNormalizer`` makes of it, the mean of the channels and torchaudio's
    resampling, but in blocks: of a long file only the mono signal at 16 kHz is held as a whole.

    Arguments
    ---------
    path : str or path
        A format of libsndfile, or one of ``DECODED`` where ffmpeg is on PATH.

    Returns
    -------
    Tensor
        Samples (samples,), float32.

    Raises
    ------
    AudioFault
        When the file is empty, is damaged, holds a sample that is not finite, or cannot be decoded.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.full((800, 2), [0.25, 0.75]), 8000)
    >>> wav = read_any_audio(path)
    >>> wav.shape, round(float(wav[800]), 2)
    (torch.Size([1600]), 0.5)
    """
    if os.fspath(path).lower().endswith(DECODED):
        wav = _decode(path)
    else:
        with _opened(path) as audio:
            rate = audio.samplerate
            if rate != SAMPLE_RATE and _filter_size(rate) > _MAX_FILTER:
                raise AudioFault(
                    "sample_rate",
                    f"{rate} Hz is costly to resample: "
                    f"convert it, for instance `ffmpeg -i IN -ac 1 -ar {SAMPLE_RATE} OUT.flac`",
                )
            wav = torch.cat(list(resample_blocks(_mono_blocks(audio, path), rate)))
    if not len(wav):
        raise AudioFault("empty", "no samples")
    if not bool(torch.isfinite(wav).all()):
        raise AudioFault("not_finite", "samples that are not finite")
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


def _opened(path: str | os.PathLike[str]) -> soundfile.SoundFile:
    _checked_size(path)
    try:
        return soundfile.SoundFile(os.fsencode(path))  # bytes: a name need not be UTF-8
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise AudioFault("unreadable", _reason(error)) from None


def _checked_size(path: str | os.PathLike[str]) -> None:
    try:
        if os.stat(path).st_size == 0:
            raise AudioFault("empty", "0 bytes")
    except OSError as error:
        raise AudioFault("unreadable", error.strerror or str(error)) from None


def _mono_blocks(audio: soundfile.SoundFile, path: str | os.PathLike[str]) -> Iterator[Tensor]:
    decoded, size = 0, _BLOCK_SECONDS * audio.samplerate
    while True:
        try:
            block = audio.read(size, dtype="float32", always_2d=True)
        except (RuntimeError, OSError, ValueError) as error:
            raise AudioFault("unreadable", _reason(error)) from None
        if not len(block):
            break
        decoded += len(block)
        yield torch.from_numpy(block.mean(axis=1) if block.shape[1] > 1 else block[:, 0])
    # An MP3's length is an estimate where its header has none.
    if decoded < audio.frames <= _MAX_FRAMES and audio.format != "MP3":
        raise AudioFault("unreadable", f"ends after {decoded} of {audio.frames} samples")
    if not decoded:
        raise AudioFault("empty", "no samples")


def _decode(path: str | os.PathLike[str]) -> Tensor:
    """Let ffmpeg decode a file that libsndfile does not know."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        ending = os.path.splitext(os.fspath(path))[1]
        raise AudioFault("unreadable", f"{ending} needs ffmpeg, which is not on PATH: install it")
    _checked_size(path)
    command = [ffmpeg, "-nostdin", "-loglevel", "error", "-threads", "1"]
    command += ["-i", f"file:{os.path.abspath(path)}", "-vn", "-ac", "1", "-ar", str(SAMPLE_RATE)]
    done = subprocess.run([*command, "-f", "f32le", "-"], capture_output=True)
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        said = " ".join(lines[-1].split()) if lines else f"status {done.returncode}"
        raise AudioFault("unreadable", f"ffmpeg: {said}")
    return torch.from_numpy(np.frombuffer(done.stdout, dtype="<f4").copy())


def _reason(error: Exception) -> str:
    # libsndfile's own words come last, after the path.
    text = str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split(": ")[-1].split()) or type(error).__name__
