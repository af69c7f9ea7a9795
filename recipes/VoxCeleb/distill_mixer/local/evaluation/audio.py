"""The audio of trial lists: each file once, checked before anything is embedded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

import soundfile
from tqdm import tqdm

from local.evaluation.lists import some
from speechbrain_ext.audio import DECODED, SAMPLE_RATE
from speechbrain_ext.errors import UserError

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


def check_audio(paths: Sequence[str], least_samples: int, threads: int) -> list[Audio]:
    """Check that every file can be embedded, by its header and its last sample.

    Arguments
    ---------
    paths : sequence of str
        Distinct files.
    least_samples : int
        What the model needs.
    threads : int
        Files looked at at a time.

    Returns
    -------
    list of Audio
        In the order of the paths.

    Raises
    ------
    UserError
        Naming the files that cannot, the kind with the most of them, and what helps.
    """
    faults: dict[str, list[str]] = {}
    good = []
    with (
        ThreadPool(max(threads, 1)) as pool,
        tqdm(desc="checking audio", total=len(paths), unit=" files", disable=None) as bar,
    ):
        for path, found in zip(paths, pool.imap(_look, paths, chunksize=16), strict=True):
            bar.update()
            if isinstance(found, str):
                faults.setdefault(found, []).append(path)
            elif found.seconds * SAMPLE_RATE < least_samples:
                remedy = f"are shorter than the {least_samples} samples that the model needs: take"
                faults.setdefault(f"{remedy} them out of the lists", []).append(path)
            else:
                good.append(found)
    if faults:
        fault, files = max(faults.items(), key=lambda item: len(item[1]))
        raise UserError(f"{len(files)} of {len(paths)} audio files ({some(files)}) {fault}.")
    return good


def _look(path: str) -> Audio | str:
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
            if frames > 0:
                audio.seek(frames - 1)
                if len(audio.read(1)) == 1:
                    return Audio(path, frames / rate, (status.st_size, status.st_mtime_ns))
        return f"are empty or end too early: {mend}"
    except (OSError, RuntimeError, ValueError, TypeError):  # soundfile's errors are RuntimeErrors
        return f"cannot be read: {mend}"
