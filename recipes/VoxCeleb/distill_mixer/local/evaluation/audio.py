"""The audio of trial lists: each file once, checked before anything is embedded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

import soundfile

from local.evaluation.lists import some
from speechbrain_ext.audio import DECODED, SAMPLE_RATE
from speechbrain_ext.errors import UserError
from speechbrain_ext.progress import progress_bar

CONVERT = f"for instance `ffmpeg -i IN -ac 1 -ar {SAMPLE_RATE} OUT.flac`"
CONVERT_M4A = "local/convert_audio.py makes a copy of the tree that can be"


class Audio(NamedTuple):
    """A file that can be embedded: path, seconds, and its size and time of change."""

    path: str
    seconds: float
    stamp: tuple[int, int]

    @property
    def row(self) -> dict[str, Any]:
        """For :func:`~speechbrain_ext.inference.extraction.utterance_loader`."""
        return {"ID": self.path, "wav": self.path, "duration": self.seconds}


def check_audio(
    utterances: Sequence[tuple[str, ...]], least_samples: int, threads: int
) -> list[Audio]:
    """Find a file of every utterance that can be embedded, by its header and its last sample.

    Arguments
    ---------
    utterances : sequence of tuple of str
        The files of each, in the order to try them.
    least_samples : int
        What the model needs.
    threads : int
        Files looked at at a time.

    Returns
    -------
    list of Audio
        The first file of each that can be embedded. It is said where that is not the very first.

    Raises
    ------
    UserError
        Naming the files of utterances that have none, the kind with the most of them, and what
        helps.
    """
    faults: dict[str, list[str]] = {}
    good: list[Audio] = []
    replaced = []

    def look(paths: tuple[str, ...]) -> list[Audio | str]:
        found = []
        for path in paths:
            found.append(_look(path, least_samples))
            if isinstance(found[-1], Audio):
                break
        return found

    with (
        ThreadPool(max(threads, 1)) as pool,
        progress_bar(desc="checking audio", total=len(utterances), unit=" files") as bar,
    ):
        for paths, found in zip(
            utterances, pool.imap(look, utterances, chunksize=16), strict=True
        ):
            bar.update()
            *others, last = found
            if isinstance(last, str):
                faults.setdefault(str(found[0]), []).append(paths[0])
                continue
            good.append(last)
            if others:
                replaced.append(f"{last.path} in the place of {paths[0]}")
    if faults:
        fault, files = max(faults.items(), key=lambda item: len(item[1]))
        raise UserError(f"{len(files)} of {len(utterances)} audio files ({some(files)}) {fault}.")
    if replaced:
        print(f"of files that cannot be used another format is: {some(replaced)}")
    return good


def _look(path: str, least_samples: int) -> Audio | str:
    """The file's facts, or what is wrong with it and what helps."""
    mend = "mend them or take them out of the lists"
    try:
        status = os.stat(path)
        if path.lower().endswith(DECODED):
            return f"cannot be read as they are: {CONVERT_M4A}"
        with soundfile.SoundFile(os.fsencode(path)) as audio:
            rate, channels, frames = audio.samplerate, audio.channels, audio.frames
            if rate != SAMPLE_RATE or channels != 1:
                return (
                    f"have {rate} Hz and {channels} channel{'s' if channels > 1 else ''}, where "
                    f"the model hears {SAMPLE_RATE} Hz and 1 channel: convert them, {CONVERT}"
                )
            if 0 < frames < least_samples:
                return (
                    f"are shorter than the {least_samples} samples that the model needs: take them "
                    "out of the lists"
                )
            if frames > 0:
                audio.seek(frames - 1)
                if len(audio.read(1)) == 1:
                    return Audio(path, frames / rate, (status.st_size, status.st_mtime_ns))
        return f"are empty or end too early: {mend}"
    except (OSError, RuntimeError, ValueError, TypeError):  # soundfile's errors are RuntimeErrors
        return f"cannot be read: {mend}"
