"""Recordings in the voices of speakers who do not exist, for a student that learns without labels.

A teacher hears a recording with other formants or another pitch as somebody else's. So a few
speakers become many: the teacher says who each of them is near, which no label could. Formants are
moved as by vocal tract length perturbation (Jaitly and Hinton, 2013), in the waveform and not only
in proportion.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn import functional

from speechbrain_ext.audio import read_audio
from speechbrain_ext.corpora.flac import write_speech
from speechbrain_ext.corpora.speeds import play
from speechbrain_ext.corpora.tree import name_of
from speechbrain_ext.corpora.utterances import Row, UnlabelledFile
from speechbrain_ext.corpora.worker_pool import worker_pool
from speechbrain_ext.errors import UserError
from speechbrain_ext.formats import SAMPLE_RATE
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.sound import AudioFault

#: The frequencies (Hz) whose shifts are drawn; between them they are interpolated.
KNOTS = np.array([0.0, 700.0, 1600.0, 2800.0, 4500.0, 8000.0])
# How far a voice lies from the original at most, as a natural logarithm: pitch and tempo by this,
# all formants together by this, and each knot by that much besides.
_SPEED, _FORMANTS, _KNOT = 0.22, 0.22, 0.07
_FRAME, _HOP = 1024, 256  # samples: 64 and 16 ms
# The envelope of a spectrum: the loudest of 13 bins (200 Hz), so that the valleys between partials
# do not count, made smooth by what the first 60 of the cepstrum say.
_PARTIALS, _CEPSTRUM = 13, 60
_MOST = 3.0  # nepers by which a frequency becomes louder or softer: 26 dB
_BLOCK_SECONDS = 60
_FILES_AT_A_TIME = 16


class Voice(NamedTuple):
    """How a recording is changed.

    Arguments
    ---------
    speed : float
        Factor of pitch and tempo.
    formants : tuple of float
        Factor of each frequency of ``KNOTS`` in the spectral envelope, whatever the speed is.
    """

    speed: float = 1.0
    formants: tuple[float, ...] = (1.0,) * len(KNOTS)

    @classmethod
    def drawn(cls, name: str, number: int) -> Voice:
        """The voice of this number for the recording of this name.

        Example
        -------
        >>> Voice.drawn("ann/1", 3) == Voice.drawn("ann/1", 3) != Voice.drawn("ann/1", 4)
        True
        """
        # Of Python's hash there is no saying what it is in another process.
        draw = np.random.default_rng([number, zlib.crc32(name.encode())])
        speed = round(math.exp(draw.uniform(-_SPEED, _SPEED)), 2)
        shifts = draw.uniform(-_FORMANTS, _FORMANTS) + draw.uniform(-_KNOT, _KNOT, len(KNOTS))
        return cls(speed, tuple(np.exp(shifts).tolist()))

    def says(self, signal: Tensor) -> Tensor:
        """Give a waveform (samples,) of 16 kHz in this voice, (samples / speed,).

        Example
        -------
        >>> len(Voice(speed=1.25).says(torch.randn(20000)))
        16000
        """
        signal = play(signal, self.speed) if self.speed != 1 else signal
        window = torch.hann_window(_FRAME)
        spectrum = torch.stft(
            signal, _FRAME, _HOP, window=window, pad_mode="constant", return_complex=True
        )
        envelope = _envelope(spectrum)
        bins = torch.arange(len(envelope)) * SAMPLE_RATE / _FRAME
        # The speed has moved the formants too.
        moved = KNOTS * np.array(self.formants) / self.speed
        origin = np.interp(bins.numpy(), moved, KNOTS) * _FRAME / SAMPLE_RATE
        below = origin.astype(int).clip(max=len(envelope) - 2)
        share = torch.from_numpy(origin - below).float()[:, None]
        wanted = torch.lerp(envelope[below], envelope[below + 1], share)
        gain = (wanted - envelope).clamp(-_MOST, _MOST).exp()
        return torch.istft(spectrum * gain, _FRAME, _HOP, window=window, length=len(signal))


def _envelope(spectrum: Tensor) -> Tensor:
    """The logarithm of the smooth part of magnitudes (bins, frames)."""
    magnitudes = spectrum.abs().clamp_min(1e-6).log().T[:, None]
    loudest = functional.max_pool1d(magnitudes, _PARTIALS, 1, _PARTIALS // 2)[:, 0].T
    cepstrum = torch.fft.irfft(loudest, n=_FRAME, dim=0)
    cepstrum[_CEPSTRUM : 1 - _CEPSTRUM] = 0
    return torch.fft.rfft(cepstrum, dim=0).real


def write_voices(rows: Sequence[Row], folder: Path, voices: int, jobs: int) -> list[UnlabelledFile]:
    """Write every recording in so many voices, each of its own; what is there stays.

    Arguments
    ---------
    rows : sequence of Row
        The recordings.
    folder : Path
        Gets ``<number>/<name>-<mark>.flac``; the mark says what it was made from.
    voices : int
        Voices of each recording.
    jobs : int
        Number of processes.

    Returns
    -------
    list of UnlabelledFile
        The rows of what was written.

    Raises
    ------
    UserError
        When a recording cannot be read or a file cannot be written.

    Example
    -------
    >>> place = getfixture("tmp_path")
    >>> soundfile.write(place / "a.wav", np.random.randn(32000) / 9, 16000)
    >>> row = UnlabelledFile(str(place), "a.wav", 32000)
    >>> [file.path[:4] for file in write_voices([row], place / "voices", voices=2, jobs=1)]
    ['1/a-', '2/a-']
    """
    wanted = [(row, number) for number in range(1, voices + 1) for row in rows]
    chunks = [wanted[n : n + _FILES_AT_A_TIME] for n in range(0, len(wanted), _FILES_AT_A_TIME)]
    files: list[UnlabelledFile] = []
    with progress_bar(None, total=len(wanted), desc="other voices", unit=" files") as progress:
        for chunk in _made(chunks, folder, jobs):
            files += chunk
            progress.update(len(chunk))
    return files


def remove_others(folder: Path, kept: Iterable[str]) -> None:
    """Remove what :func:`write_voices` wrote into a folder, but for the files of these paths.

    Example
    -------
    >>> folder = getfixture("tmp_path") / "voices"
    >>> (folder / "1").mkdir(parents=True)
    >>> for name in ("a.flac", "b.flac"):
    ...     (folder / "1" / name).touch()
    >>> remove_others(folder, [str(folder / "1" / "a.flac")])
    >>> [path.name for path in folder.rglob("*.flac")]
    ['a.flac']
    """
    paths = set(kept)
    if not paths:
        shutil.rmtree(folder, ignore_errors=True)
    for path in folder.rglob("*"):
        if path.is_file() and str(path) not in paths:
            path.unlink()


def _made(
    chunks: Sequence[Sequence[tuple[Row, int]]], folder: Path, jobs: int
) -> Iterator[list[UnlabelledFile]]:
    if jobs == 1:
        yield from (_write_chunk(chunk, folder) for chunk in chunks)
        return
    try:
        with worker_pool(jobs) as pool:
            yield from pool.map(_write_chunk, chunks, repeat(folder))
    except BrokenProcessPool:
        raise UserError(
            f"{folder}: a process that was writing voices was killed, for instance for want of "
            "memory; run again with a smaller --jobs.",
            code="killed-process",
        ) from None


def _write_chunk(chunk: Sequence[tuple[Row, int]], folder: Path) -> list[UnlabelledFile]:
    torch.set_num_threads(1)
    return [_write(row, number, folder) for row, number in chunk]


def _write(row: Row, number: int, folder: Path) -> UnlabelledFile:
    source = os.path.join(row.root, row.path)
    status = os.stat(source)
    voice = Voice.drawn(row.id, number)
    made_from = repr((source, status.st_size, status.st_mtime_ns, row.start, row.frames, voice))
    mark = f"{zlib.crc32(made_from.encode()):08x}"
    path = f"{number}/{name_of(row.path)}-{mark}.flac"
    if not (folder / path).is_file():
        blocks = [voice.says(signal) for signal in _blocks(source, row)]
        signal = torch.cat(blocks)
        write_speech(folder / path, (signal / signal.abs().max().clamp_min(1)).numpy())
    return UnlabelledFile(str(folder), path, soundfile.info(folder / path).frames)


def _blocks(source: str, row: Row) -> Iterator[Tensor]:
    """Parts of a recording, of about a minute each: the spectra of an hour take gigabytes."""
    count = max(1, round(row.frames / (_BLOCK_SECONDS * SAMPLE_RATE)))
    ends = [row.start + row.frames * n // count for n in range(count + 1)]
    for start, stop in itertools.pairwise(ends):
        try:
            yield read_audio(source, start, stop)
        except AudioFault as fault:
            raise UserError(
                f"{source} cannot be used ({fault.detail}): make it again, or take it away.",
                code="unusable-audio",
            ) from None
