"""Files of audio as they are: opened, checked for damage, read in mono blocks at their own rate."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soundfile

from speechbrain_ext.errors import told_apart
from speechbrain_ext.formats import DECODED
from speechbrain_ext.mpeg import Unending, count_frames

#: What never goes further than this from its middle, in dB re full scale, holds no speech.
SILENCE_DB = -60.0

#: Sample rates that a recording can have, in Hz. Beyond them a header is damaged.
LOWEST_RATE, HIGHEST_RATE = 2_000, 768_000

_BLOCK_SECONDS = 10
_BLOCK_NUMBERS = 2**24  # of all channels, in a block of more than a second
# A header without a length (a stream that was never finished) reads as an absurd number.
_MAX_FRAMES = 2**40
# Such a header of four bytes: 0xFFFFFFFF, or what is left of 0x7FFFFFFF.
_NO_SIZE = 0x7FFFF000
# Some programs count their header as sound: what is missing then is not.
_SLIP_BYTES = 64
# What libsndfile notes, but does not refuse, in a file that was cut; sizes follow in bytes. A data
# chunk "seems to be truncated" in whole GSM as well, to which a byte is added to make it even.
_CUT_NOTES = re.compile(
    r"(?<!data chunk seems to be )truncated|Junk after the last page|without an End-Of-Stream"
)
_CUT_SIZES = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
# And what ffmpeg notes of Matroska, WebM and AVI.
_CUT_WARNINGS = re.compile(r"ended prematurely|corrupt")


class AudioFault(Exception):
    """Why a file cannot be used.

    Arguments
    ---------
    cause : str
        One word: ``unreadable``, ``empty``, ``silent``, ``not_finite``, ``sample_rate``.
    detail : str
        What was found.
    """

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(cause, detail)  # both, or a process could not hand it to another
        self.cause, self.detail = cause, detail


class AudioHeader(NamedTuple):
    """What is known of a file before it is decoded.

    Arguments
    ---------
    frames : int or None
        Samples of each channel; None where only decoding tells.
    sample_rate, channels : int
        In Hz; 1 is mono.
    floating : bool
        Whether its samples can be anything, such as NaN.
    """

    frames: int | None
    sample_rate: int
    channels: int
    floating: bool = False


class Level:
    """How far a signal goes from its middle, block by block; a constant offset is no sound.

    Example
    -------
    >>> level = Level()
    >>> level.add(np.full(100, 0.5))
    >>> level.loud
    False
    >>> level.check()
    Traceback (most recent call last):
        ...
    speechbrain_ext.sound.AudioFault: ('silent', 'all samples are the same')
    """

    def __init__(self) -> None:
        self._lowest, self._highest = math.inf, -math.inf

    def add(self, block: np.ndarray) -> None:
        """Hear a block (samples,), which is not empty."""
        self._lowest = min(self._lowest, float(block.min()))
        self._highest = max(self._highest, float(block.max()))

    @property
    def loud(self) -> bool:
        """Whether there can be speech in what was heard."""
        return self._peak >= 10 ** (SILENCE_DB / 20)

    def check(self) -> None:
        """Refuse what no speech can be in.

        Raises
        ------
        AudioFault
            Of cause ``silent``.
        """
        if not self.loud:
            raise AudioFault(
                "silent",
                f"{told_apart(20 * math.log10(self._peak), SILENCE_DB)} dB at most"
                if self._peak > 0
                else "all samples are the same",
            )

    @property
    def _peak(self) -> float:
        return max(self._highest - self._lowest, 0.0) / 2


def check_sample_rate(rate: float) -> None:
    """Refuse a sample rate that no recording has.

    Raises
    ------
    AudioFault
        Of cause ``sample_rate``.

    Example
    -------
    >>> check_sample_rate(44100)
    """
    if not LOWEST_RATE <= rate <= HIGHEST_RATE or rate != int(rate):
        raise AudioFault("sample_rate", f"{rate} samples a second")


def check_speech(wav: np.ndarray) -> None:
    """Refuse a waveform (samples,) in which no speech can be.

    Raises
    ------
    AudioFault
        Of cause ``empty`` or ``silent``.

    Example
    -------
    >>> check_speech(np.random.default_rng(0).normal(size=16000))
    """
    if not len(wav):
        raise AudioFault("empty", "no samples")
    level = Level()
    level.add(wav)
    level.check()


def read_header(path: str | os.PathLike[str]) -> AudioHeader | None:
    """Read the header of a file and its last sample; None for a format that ffmpeg has to decode.

    Raises
    ------
    AudioFault
        When it is empty, has been cut, or cannot be read.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros((800, 2)), 8000)
    >>> read_header(path)
    AudioHeader(frames=800, sample_rate=8000, channels=2, floating=False)
    """
    if needs_ffmpeg(path):
        _checked_size(path)
        _find_ffmpeg(path)
        return None
    with open_audio(path) as sound:
        sound.check_end()
        return sound.header


class Sound:
    """An open file; see :func:`open_audio`.

    Arguments
    ---------
    file : _OneWay
        What libsndfile made of it.
    frames : int or None
        Samples of each channel, where known.
    """

    def __init__(self, file: _OneWay, frames: int | None) -> None:
        check_sample_rate(file.samplerate)
        self._file = file
        self.header = AudioHeader(
            frames, file.samplerate, file.channels, file.subtype in ("FLOAT", "DOUBLE")
        )

    def blocks(self, seconds: int = _BLOCK_SECONDS) -> Iterator[np.ndarray]:
        """From the first sample to the last: mono blocks (samples,), float32, at the file's rate.

        Raises
        ------
        AudioFault
            When it is damaged, ends early, or holds a sample that is not finite.
        """
        frames, rate, channels, _ = self.header
        seconds = max(1, min(seconds, _BLOCK_NUMBERS // (rate * channels)))
        done = 0
        while len(block := self._read(seconds * rate, done)):
            done += len(block)
            yield block
        if frames is not None and done < frames:
            raise AudioFault("unreadable", f"ends after {done} of {frames} samples")
        if not done:
            raise AudioFault("empty", "no samples")

    def check_speech(self) -> None:
        """Refuse a file in which no speech can be; of others a second or so is read.

        One of floating-point samples, which alone can hold what is no number, is read whole.

        Raises
        ------
        AudioFault
            When it is damaged or silent.
        """
        level = Level()
        for block in self.blocks(seconds=1):
            level.add(block)
            if level.loud and not self.header.floating:
                return
        level.check()

    def check_end(self) -> None:
        """Refuse a file without samples, or without its last, where that can be told quickly.

        Raises
        ------
        AudioFault
            When it is empty, damaged, or ends early.
        """
        frames = self.header.frames
        if frames == 0:
            raise AudioFault("empty", "no samples")
        if frames and self._file.can_start_anywhere and not len(self.section(frames - 1, frames)):
            raise AudioFault("unreadable", f"ends before its {frames} samples")

    def section(self, start: int, stop: int) -> np.ndarray:
        """Samples (stop - start,) as :meth:`blocks` has them, without those before and after.

        Raises
        ------
        AudioFault
            When it is damaged, ends early, or holds a sample that is not finite.
        """
        if not self._file.can_start_anywhere:
            return np.concatenate(list(self.blocks()))[start:stop]
        try:
            self._file.seek(start)
        except (RuntimeError, OSError, ValueError) as error:
            raise AudioFault("unreadable", _reason(error)) from None
        return self._read(stop - start, start)

    def _read(self, samples: int, start: int) -> np.ndarray:
        try:
            block = self._file.read(samples, dtype="float32", always_2d=True)
        except (RuntimeError, OSError, ValueError) as error:
            raise AudioFault("unreadable", _reason(error)) from None
        mono = block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
        finite = np.isfinite(mono)
        if not finite.all():
            first = int(np.argmin(finite))
            at = (start + first) / self.header.sample_rate
            raise AudioFault("not_finite", f"the sample at {at:.3f} s is {float(mono[first])}")
        return mono


def open_audio(path: str | os.PathLike[str]) -> contextlib.AbstractContextManager[Sound]:
    """Open a file to read blocks or a section of it.

    Arguments
    ---------
    path : str or path
        A format of libsndfile, or one of ``DECODED``, of which :meth:`Sound.blocks` alone are
        there.

    Returns
    -------
    context manager
        Gives a :class:`Sound`.

    Raises
    ------
    AudioFault
        When it is empty, has been cut, or cannot be read; for ``DECODED`` also on leaving.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, np.zeros((800, 2)), 8000)
    >>> with open_audio(path) as sound:
    ...     [len(block) for block in sound.blocks()]
    [800]
    """
    _checked_size(path)
    return _decoded(path) if needs_ffmpeg(path) else _opened(path)


class _OneWay(soundfile.SoundFile):
    """Reads on and on without soundfile's seek after every read, which costs a decoder its state.

    After such a seek libmpg123 gives noise where a frame is made from those before it.
    """

    def seekable(self) -> bool:
        return False

    @property
    def can_start_anywhere(self) -> bool:
        return super().seekable() and self.format != "MP3"


def needs_ffmpeg(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(DECODED)


def _find_ffmpeg(path: str | os.PathLike[str]) -> str:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        ending = os.path.splitext(os.fspath(path))[1]
        raise AudioFault("unreadable", f"{ending} needs ffmpeg, which is not on PATH: install it")
    return ffmpeg


def _checked_size(path: str | os.PathLike[str]) -> None:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise AudioFault("unreadable", "no file, but a folder, a pipe or a device")
        if status.st_size == 0:
            raise AudioFault("empty", "0 bytes")
        with open(path, "rb"):  # of a file that may not be read libsndfile says "System error."
            pass
    except (OSError, ValueError) as error:  # the second of a name with a zero in it
        raise AudioFault("unreadable", _reason(error)) from None


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Sound]:
    name = os.fsencode(path)  # bytes: a name need not be UTF-8
    try:
        file = _OneWay(name)
        frames = file.frames if file.frames <= _MAX_FRAMES else None
        if file.format == "MP3":
            file, frames = _mpeg(name, file)
        elif file.format == "WAV" and not file.frames:
            file = _never_closed(name)
            frames = file.frames
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise AudioFault("unreadable", _reason(error)) from None
    with file:
        _refuse_cut(file, name)
        yield Sound(file, frames)


def _mpeg(name: bytes, file: _OneWay) -> tuple[_OneWay, int | None]:
    """Where the header does not tell how many frames there are, let them be read to the end."""
    with open(name, "rb") as stream:
        found = count_frames(stream.read())
    if found.cut:
        raise AudioFault("unreadable", f"ends within MPEG frame {found.number + 1}")
    if found.mixed:
        detail = f"goes on as sound of another kind after MPEG frame {found.number}"
        raise AudioFault("unreadable", detail)
    if found.stated is not None and found.number < found.stated - 1:
        detail = f"ends after {found.number} of {found.stated} MPEG frames"
        raise AudioFault("unreadable", detail)
    if found.number in (0, found.stated):
        return file, file.frames
    file.close()
    return _OneWay(Unending(found.sound)), found.samples


def _never_closed(name: bytes) -> _OneWay:
    """Open a WAV whose size was left at 0, as programs do that write into a pipe or were killed."""
    with open(name, "rb") as stream:
        content = bytearray(stream.read())
    content[4:8] = (8).to_bytes(4, "little")  # for libsndfile the mark of such a file
    return _OneWay(io.BytesIO(content))


def _refuse_cut(file: soundfile.SoundFile, name: bytes) -> None:
    notes = file.extra_info
    if _CUT_NOTES.search(notes):
        raise AudioFault("unreadable", "has been cut, or joined from several files")
    for stated, found in _CUT_SIZES.findall(notes):
        missing = int(stated) - int(found)
        if missing > _SLIP_BYTES and int(stated) < _NO_SIZE:
            raise AudioFault("unreadable", f"ends {missing} bytes before its {stated} of sound")
    if file.format == "NIST":  # of which libsndfile notes nothing
        with open(name, "rb") as stream:
            count = re.search(rb"sample_count -i (\d+)", stream.read(1024))
        if count and file.frames < int(count[1]):
            detail = f"ends after {file.frames} of {int(count[1])} samples"
            raise AudioFault("unreadable", detail)


@contextlib.contextmanager
def _decoded(path: str | os.PathLike[str]) -> Iterator[Sound]:
    """Let ffmpeg decode a file that libsndfile does not know, and read what it makes of it."""
    command = [_find_ffmpeg(path), "-nostdin", "-loglevel", "warning", "-xerror", "-threads", "1"]
    command += ["-i", f"file:{os.path.abspath(path)}", "-vn", "-c:a", "pcm_f32be", "-f", "au", "-"]
    with (
        tempfile.TemporaryFile() as notes,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=notes) as process,
    ):
        assert process.stdout is not None
        try:
            file = _OneWay(process.stdout.fileno(), closefd=False)
        except (RuntimeError, OSError):
            _finish(process, notes)
            raise AudioFault("unreadable", "ffmpeg: no sound") from None
        with file:
            yield Sound(file, None)
        _finish(process, notes)


def _finish(process: subprocess.Popen[bytes], notes: io.BufferedRandom) -> None:
    """Wait for ffmpeg, and tell what went wrong."""
    assert process.stdout is not None
    process.stdout.close()
    status = process.wait()
    notes.seek(0)
    lines = [line for line in notes.read().decode(errors="replace").splitlines() if line.strip()]
    if not status:
        lines = [line for line in lines if _CUT_WARNINGS.search(line)]
    if status or lines:
        said = " ".join(lines[-1].split()) if lines else f"status {status}"
        raise AudioFault("unreadable", f"ffmpeg: {said}")


def _reason(error: Exception) -> str:
    # libsndfile's own words come last, after the path.
    text = str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split(": ")[-1].split()) or type(error).__name__
