"""Which audio files can be used, how long they are, and why the others cannot."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from threading import Thread
from typing import NamedTuple

import numpy as np
import soundfile
from tqdm import tqdm

from local.manifests.settings import Settings
from speechbrain_ext.audio import DECODED
from speechbrain_ext.errors import UserError

CAUSES = {
    "unreadable": "make these files again",
    "empty": "make these files again",
    "silent": "nothing to do unless they should hold speech",
    "too_short": "nothing to do, or lower min_seconds",
    "sample_rate": "resample them, for instance `ffmpeg -i IN -ar {sample_rate} OUT.flac`",
    "channels": "mix them down, for instance `ffmpeg -i IN -ac 1 OUT.flac`",
    "name": "rename them without white space, `$` and bytes that are not UTF-8",
    "duplicate": "keep one file of each utterance",
}
"""Why a file is skipped, and what helps."""

TO_CONVERT = "convert with local/convert_audio.py"

_CHUNK = 256
# A header without a length (a stream that was never finished) reads as an absurd number.
_MAX_FRAMES = 2**40


class Skipped(NamedTuple):
    """A file that cannot be used: a key of ``CAUSES`` and what was found."""

    cause: str
    detail: str


def scan_files(
    root: str, paths: Sequence[str], settings: Settings, jobs: int
) -> Iterator[tuple[str, int | Skipped]]:
    """Check files in parallel, in the order given.

    Arguments
    ---------
    root : str
        Folder that the paths are below.
    paths : sequence of str
        The files.
    settings : Settings
        What a usable file is.
    jobs : int
        Number of processes; 1 works in this one.

    Yields
    ------
    (str, int or Skipped)
        Each path with its length in samples, or with the reason why it cannot be used.
    """
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    jobs = min(jobs, len(chunks))
    with tqdm(
        desc=f"checking {os.path.basename(root)}", total=len(paths), unit=" files", disable=None
    ) as progress:
        for chunk, results in zip(chunks, _run(root, chunks, settings, jobs), strict=True):
            yield from zip(chunk, results, strict=True)
            progress.update(len(chunk))


def _run(
    root: str, chunks: list[Sequence[str]], settings: Settings, jobs: int
) -> Iterator[list[int | Skipped]]:
    if jobs <= 1:
        yield from (_check_chunk(root, chunk, settings) for chunk in chunks)
        return
    # spawn: a fork of a process with threads (progress bar) may hang.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        yield from executor.map(_check_chunk, repeat(root), chunks, repeat(settings))
    except BrokenProcessPool:
        raise UserError(
            f"{root}: a process that was checking files was killed, for instance for want of "
            "memory; run again with a smaller --jobs."
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the process that started this one, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _check_chunk(root: str, paths: Sequence[str], settings: Settings) -> list[int | Skipped]:
    return [check_file(os.path.join(root, path), settings) for path in paths]


def check_file(path: str, settings: Settings) -> int | Skipped:
    """Check one audio file.

    Decoding all of a corpus would take hours, so of a usable file only the header, the first
    second or so of sound, and the last sample are read: enough to tell silence and a truncated
    file. Only a silent file is read whole.

    Arguments
    ---------
    path : str
        The file.
    settings : Settings
        What a usable file is.

    Returns
    -------
    int or Skipped
        Length in samples, or why the file cannot be used.

    Example
    -------
    >>> path = str(getfixture("tmp_path") / "a.wav")
    >>> settings = Settings(20, 1234, 10, 16000, 0.3, -60.0)
    >>> soundfile.write(path, np.full(8000, 0.1), 16000)
    >>> check_file(path, settings)
    8000
    >>> soundfile.write(path, np.zeros(8000), 16000)
    >>> check_file(path, settings)
    Skipped(cause='silent', detail='digital zero')
    """
    bad_name = _bad_name(path)
    if bad_name:
        return Skipped("name", bad_name)
    try:
        if os.path.getsize(path) == 0:
            return Skipped("empty", "0 bytes")
        if path.lower().endswith(DECODED):
            return Skipped("unreadable", f"{os.path.splitext(path)[1]}: {TO_CONVERT}")
        with soundfile.SoundFile(path) as audio:
            return _check_audio(audio, settings)
    except (OSError, RuntimeError, ValueError) as error:  # soundfile's errors are RuntimeErrors
        reason = error.strerror if isinstance(error, OSError) else str(error)
        reason = (
            (reason or type(error).__name__).replace(path, "").replace("Error opening '': ", "")
        )
        return Skipped("unreadable", " ".join(reason.split()))


def _bad_name(path: str) -> str:
    """Tell what a trial list or SpeechBrain's CSV reader could not digest in a path."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "not UTF-8"
    if "$" in path:  # SpeechBrain's CSV reader takes $word for a variable
        return "$ in the path"
    # The folders above the speaker may hold blanks; the name of the utterance may not.
    if any(character.isspace() for character in "/".join(path.split("/")[-3:])):
        return "white space in the name"
    return ""


def _check_audio(audio: soundfile.SoundFile, settings: Settings) -> int | Skipped:
    frames = audio.frames
    if frames <= 0:
        return Skipped("empty", "no samples")
    if frames > _MAX_FRAMES:
        return Skipped("unreadable", "the header gives no length")
    if audio.samplerate != settings.sample_rate:
        return Skipped("sample_rate", f"{audio.samplerate} Hz, not {settings.sample_rate} Hz")
    if audio.channels != 1:
        return Skipped("channels", f"{audio.channels} channels, not 1")
    if frames < settings.min_seconds * audio.samplerate:
        seconds = frames / audio.samplerate
        return Skipped("too_short", f"{seconds:.3f} s, less than {settings.min_seconds:g} s")

    least = 10 ** (settings.silence_peak_db / 20)
    highest, decoded = 0.0, 0
    while highest < least and decoded < frames:
        block = audio.read(audio.samplerate, dtype="float32")
        if len(block) == 0:
            return Skipped("unreadable", f"ends after {decoded} of {frames} samples")
        decoded += len(block)
        peak = float(np.abs(block).max())
        if not math.isfinite(peak):
            return Skipped("unreadable", "samples that are not finite")
        highest = max(highest, peak)
    if highest < least:
        level = f"{20 * math.log10(highest):.1f} dB at most" if highest > 0 else "digital zero"
        return Skipped("silent", level)
    if decoded < frames:
        audio.seek(frames - 1)
        if len(audio.read(1)) != 1:
            return Skipped("unreadable", f"ends before its {frames} samples")
    return frames
