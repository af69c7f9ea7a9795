"""Which audio files can be used, how long they are, and why the others cannot."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

from speechbrain_ext.corpora.manifest_settings import ManifestSettings
from speechbrain_ext.corpora.worker_pool import worker_pool
from speechbrain_ext.errors import UserError, told_apart
from speechbrain_ext.formats import DECODED, SAMPLE_RATE
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.sound import AudioFault, Sound, open_audio

_TO_CONVERT = "convert their folder: python local/convert_audio.py --src FOLDER --dst ANOTHER"
CAUSES = {
    "unreadable": "make these files again",
    "empty": "make these files again",
    "not_finite": "make these files again",
    "silent": "nothing to do unless they should hold speech",
    "too_short": "nothing to do, or lower min_seconds",
    **dict.fromkeys(("format", "sample_rate", "channels"), _TO_CONVERT),
    "name": "rename them without white space, `$` and bytes that are not UTF-8",
    "duplicate": "keep one file of each utterance",
}
"""Why a file is skipped, and what helps."""

_CHUNK = 256


class Skipped(NamedTuple):
    """A file that cannot be used: a key of ``CAUSES`` and what was found."""

    cause: str
    detail: str


def conversion(cause: str, root: str, corpus_dir: Path, option: str) -> str | None:
    """What helps where files are skipped that can be converted: a command, and what comes then.

    Arguments
    ---------
    cause : str
        Why a file is skipped.
    root : str
        The folder that it is below.
    corpus_dir : Path
        Of the corpus, which gets the converted folder.
    option : str
        The one that named the folder.

    Returns
    -------
    str or None
        None where the cause is another.
    """
    if CAUSES[cause] != _TO_CONVERT:
        return None
    converted = str(corpus_dir / "converted" / os.path.basename(root))
    command = ["python", "local/convert_audio.py", "--src", root, "--dst", converted]
    command += ["--unlabelled"] * (option == "--unlabelled")
    of_run_sh = {"--train": "--data"}.get(option, option)
    return (
        f"convert that folder, `{shlex.join(command)}`, and give {option} {converted} (run.sh "
        f"converts what {of_run_sh} names)"
    )


def scan_files(
    root: str, paths: Sequence[str], settings: ManifestSettings, jobs: int
) -> Iterator[tuple[str, int | Skipped]]:
    """Check files in parallel, in the order given.

    Arguments
    ---------
    root : str
        Folder that the paths are below.
    paths : sequence of str
        The files.
    settings : ManifestSettings
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
    with progress_bar(
        desc=f"checking {os.path.basename(root)}", total=len(paths), unit=" files"
    ) as progress:
        for chunk, results in zip(chunks, _run(root, chunks, settings, jobs), strict=True):
            yield from zip(chunk, results, strict=True)
            progress.update(len(chunk))


def _run(
    root: str, chunks: list[Sequence[str]], settings: ManifestSettings, jobs: int
) -> Iterator[list[int | Skipped]]:
    if jobs <= 1:
        yield from (_check_chunk(root, chunk, settings) for chunk in chunks)
        return
    try:
        with worker_pool(jobs) as pool:
            yield from pool.map(_check_chunk, repeat(root), chunks, repeat(settings))
    except BrokenProcessPool:
        raise UserError(
            f"{root}: a process that was checking files was killed, for instance for want of "
            "memory; run again with a smaller --jobs.",
            code="killed-process",
        ) from None


def _check_chunk(
    root: str, paths: Sequence[str], settings: ManifestSettings
) -> list[int | Skipped]:
    results: list[int | Skipped] = []
    for path in paths:
        bad_name = _bad_name(root, path)
        if bad_name:
            results.append(Skipped("name", bad_name))
        else:
            results.append(check_file(os.path.join(root, path), settings))
    return results


def check_file(path: str, settings: ManifestSettings) -> int | Skipped:
    """Check one audio file.

    Decoding all of a corpus would take hours, so of a usable file only the header, the first
    second or so of sound, and the last sample are read: enough to tell silence and a truncated
    file. A silent file is read whole, and one of floating-point samples, which alone can hold what
    is no number.

    Arguments
    ---------
    path : str
        The file.
    settings : ManifestSettings
        What a usable file is.

    Returns
    -------
    int or Skipped
        Length in samples, or why the file cannot be used.

    Example
    -------
    >>> import numpy, soundfile
    >>> path = str(getfixture("tmp_path") / "a.wav")
    >>> settings = ManifestSettings(20, 1234, 10, 0.3, 100, 0)
    >>> soundfile.write(path, numpy.sin(numpy.arange(8000)), 16000)
    >>> check_file(path, settings)
    8000
    >>> soundfile.write(path, numpy.zeros(8000), 16000)
    >>> check_file(path, settings)
    Skipped(cause='silent', detail='all samples are the same')
    """
    if path.lower().endswith(DECODED):
        return Skipped("format", f"{os.path.splitext(path)[1]}, which training does not read")
    try:
        with open_audio(path) as sound:
            return _check_sound(sound, settings)
    except AudioFault as fault:
        return Skipped(fault.cause, fault.detail)


def _bad_name(root: str, path: str) -> str:
    """What in a path a trial list or SpeechBrain's CSV reader cannot take; empty for nothing."""
    full = os.path.join(root, path)
    try:
        full.encode("utf-8")
    except UnicodeEncodeError:
        return "not UTF-8"
    if "$" in full:  # SpeechBrain's CSV reader takes $word for a variable
        return "$ in the path"
    # The folders above the speaker may hold blanks; the name of the utterance may not.
    if any(character.isspace() for character in path):
        return "white space in the name"
    return ""


def _check_sound(sound: Sound, settings: ManifestSettings) -> int | Skipped:
    frames, rate, channels, _ = sound.header
    if frames is None:
        return Skipped("format", "the header gives no length")
    if frames <= 0:
        return Skipped("empty", "no samples")
    if (rate, channels) != (SAMPLE_RATE, 1):
        found = f"{rate} Hz and {channels} channel{'s' * (channels > 1)}"
        cause = "channels" if rate == SAMPLE_RATE else "sample_rate"
        return Skipped(cause, f"{found}, not {SAMPLE_RATE} Hz and 1 channel")
    if frames < settings.min_seconds * rate:
        seconds = told_apart(frames / rate, settings.min_seconds, decimals=3)
        return Skipped("too_short", f"{seconds} s, less than {settings.min_seconds} s")
    sound.check_speech()
    sound.check_end()
    return frames
