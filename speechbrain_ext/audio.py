"""Audio of any format, sample rate and number of channels, as the models hear it: mono, 16 kHz."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from speechbrain_ext.errors import brought_by, told_apart
from speechbrain_ext.formats import AUDIO as AUDIO
from speechbrain_ext.formats import DECODED as DECODED
from speechbrain_ext.formats import READABLE as READABLE
from speechbrain_ext.formats import SAMPLE_RATE as SAMPLE_RATE
from speechbrain_ext.mpeg import Unending, count_frames

with brought_by("train"):
    import soundfile
    import torch
    import torchaudio
    from torch import Tensor

#: What never goes further than this from its middle, in dB re full scale, holds no speech.
SILENCE_DB = -60.0

_BLOCK_SECONDS = 10
# A header without a length (a stream that was never finished) reads as an absurd number.
_MAX_FRAMES = 2**40
# Such a header of four bytes: 0xFFFFFFFF, or what is left of 0x7FFFFFFF.
_NO_SIZE = 0x7FFFF000
# Some programs count their header as sound: what is missing then is not.
_SLIP_BYTES = 64
# torchaudio keeps a filter for each of these phases: 44,100 Hz has 160 of 475 numbers.
_MAX_FILTER = 20_000_000
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
    >>> level.add(torch.full((100,), 0.5))
    >>> level.loud
    False
    >>> level.check()
    Traceback (most recent call last):
        ...
    speechbrain_ext.audio.AudioFault: ('silent', 'all samples are the same')
    """

    def __init__(self) -> None:
        self._lowest, self._highest = math.inf, -math.inf

    def add(self, block: Tensor) -> None:
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


def check_speech(wav: Tensor) -> None:
    """Refuse a waveform (samples,) in which no speech can be.

    Raises
    ------
    AudioFault
        Of cause ``empty`` or ``silent``.

    Example
    -------
    >>> check_speech(torch.randn(16000))
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
    >>> soundfile.write(path, torch.zeros(800, 2), 8000)
    >>> read_header(path)
    AudioHeader(frames=800, sample_rate=8000, channels=2, floating=False)
    """
    if _needs_ffmpeg(path):
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
        self._file = file
        self.header = AudioHeader(
            frames, file.samplerate, file.channels, file.subtype in ("FLOAT", "DOUBLE")
        )

    def blocks(self, seconds: int = _BLOCK_SECONDS) -> Iterator[Tensor]:
        """From the first sample to the last: mono blocks (samples,), float32, at the file's rate.

        Raises
        ------
        AudioFault
            When it is damaged, ends early, or holds a sample that is not finite.
        """
        frames, rate = self.header.frames, self.header.sample_rate
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

    def section(self, start: int, stop: int) -> Tensor:
        """Samples (stop - start,) as :meth:`blocks` has them, without those before and after.

        Raises
        ------
        AudioFault
            When it is damaged, ends early, or holds a sample that is not finite.
        """
        if not self._file.can_start_anywhere:
            return torch.cat(list(self.blocks()))[start:stop]
        try:
            self._file.seek(start)
        except (RuntimeError, OSError, ValueError) as error:
            raise AudioFault("unreadable", _reason(error)) from None
        return self._read(stop - start, start)

    def _read(self, samples: int, start: int) -> Tensor:
        try:
            block = self._file.read(samples, dtype="float32", always_2d=True)
        except (RuntimeError, OSError, ValueError) as error:
            raise AudioFault("unreadable", _reason(error)) from None
        mono = torch.from_numpy(block.mean(axis=1) if block.shape[1] > 1 else block[:, 0])
        finite = torch.isfinite(mono)
        if not bool(finite.all()):
            first = int((~finite).nonzero()[0])
            at = (start + first) / self.header.sample_rate
            raise AudioFault("not_finite", f"the sample at {at:.3f} s is {float(mono[first])}")
        return mono


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
    >>> soundfile.write(path, torch.rand(800, 2), 8000)
    >>> read_audio(path).shape, read_audio(path, 800, 900).shape
    (torch.Size([1600]), torch.Size([100]))
    """
    level = Level()

    def heard(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        for block in blocks:
            level.add(block)
            yield block

    with open_audio(path) as sound:
        rate = sound.header.sample_rate
        if rate != SAMPLE_RATE and _filter_size(rate) > _MAX_FILTER:
            raise AudioFault(
                "sample_rate",
                f"{rate} Hz is costly to resample: "
                f"convert it, for instance `ffmpeg -i IN -ac 1 -ar {SAMPLE_RATE} OUT.flac`",
            )
        if stop is not None and rate == SAMPLE_RATE and not _needs_ffmpeg(path):
            wav = sound.section(start, stop)
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
    >>> soundfile.write(path, torch.cat((torch.rand(800), torch.zeros(800))), 16000)
    >>> read_utterance(path, 0, 800).shape
    torch.Size([800])
    >>> read_utterance(path, 800, 1600)
    Traceback (most recent call last):
        ...
    speechbrain_ext.audio.AudioFault: ('silent', 'all samples are the same')
    """
    wav = read_audio(path, start, stop)
    if stop is not None:
        check_speech(wav)
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
    >>> soundfile.write(path, torch.zeros(800, 2), 8000)
    >>> with open_audio(path) as sound:
    ...     [len(block) for block in sound.blocks()]
    [800]
    """
    _checked_size(path)
    return _decoded(path) if _needs_ffmpeg(path) else _opened(path)


class _OneWay(soundfile.SoundFile):
    """Reads on and on without soundfile's seek after every read, which costs a decoder its state.

    After such a seek libmpg123 gives noise where a frame is made from those before it.
    """

    def seekable(self) -> bool:
        return False

    @property
    def can_start_anywhere(self) -> bool:
        return super().seekable() and self.format != "MP3"


def _needs_ffmpeg(path: str | os.PathLike[str]) -> bool:
    return os.fspath(path).lower().endswith(DECODED)


def _find_ffmpeg(path: str | os.PathLike[str]) -> str:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        ending = os.path.splitext(os.fspath(path))[1]
        raise AudioFault("unreadable", f"{ending} needs ffmpeg, which is not on PATH: install it")
    return ffmpeg


def _checked_size(path: str | os.PathLike[str]) -> None:
    try:
        if os.stat(path).st_size == 0:
            raise AudioFault("empty", "0 bytes")
    except OSError as error:
        raise AudioFault("unreadable", error.strerror or str(error)) from None


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
