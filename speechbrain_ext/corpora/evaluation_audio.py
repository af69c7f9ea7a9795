"""The audio of trial lists: each file once, checked before anything is embedded."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from speechbrain_ext.audio import DECODED, SAMPLE_RATE, AudioFault, open_audio, read_header
from speechbrain_ext.corpora.evaluation_lists import some
from speechbrain_ext.errors import UserError
from speechbrain_ext.progress import progress_bar
from speechbrain_ext.workers import in_threads


class Audio(NamedTuple):
    """A file that can be embedded: path, seconds, and its size and time of change.

    The seconds are infinite where only decoding tells them.
    """

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
    """Find a file of every utterance that can be embedded, by its header, first sound and end.

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
    faults: dict[str, list[tuple[str, str]]] = {}
    good = []
    replaced = []

    def look(paths: tuple[str, ...]) -> tuple[Audio | None, AudioFault | None]:
        """A file that can be embedded, and what is wrong with those before it."""
        first = None
        for path in paths:
            found = _look(path, least_samples)
            if isinstance(found, Audio):
                return found, first
            first = first or found
        return None, first

    with (
        in_threads(look, utterances, threads) as results,
        progress_bar(desc="checking audio", total=len(utterances), unit=" files") as bar,
    ):
        for paths, (audio, fault) in zip(utterances, results, strict=True):
            bar.update()
            if audio is not None:
                good.append(audio)
                if fault is not None:
                    replaced.append(f"{audio.path} in the place of {paths[0]}")
            elif fault is not None:
                faults.setdefault(fault.cause, []).append((paths[0], fault.detail))
    if faults:
        cause, files = max(faults.items(), key=lambda item: len(item[1]))
        if cause == "too_short":
            what = f"are shorter than the {least_samples} samples that the model needs: take"
        else:
            what = f"cannot be used (the first: {files[0][1]}): mend them or take"
        raise UserError(
            f"{len(files)} of {len(utterances)} audio files ({some([path for path, _ in files])}) "
            f"{what} them out of the lists."
        )
    if replaced:
        print(f"of files that cannot be used another format is: {some(replaced)}")
    return good


def _look(path: str, least_samples: int) -> Audio | AudioFault:
    """The file's facts, or what is wrong with it."""
    try:
        status = os.stat(path)
        if path.lower().endswith(DECODED):
            header = read_header(path)
        else:
            with open_audio(path) as sound:
                sound.check_speech()
                sound.check_end()
                header = sound.header
    except AudioFault as fault:
        return fault
    except OSError as error:
        return AudioFault("unreadable", error.strerror or str(error))
    seconds = math.inf
    if header is not None and header.frames is not None:
        seconds = header.frames / header.sample_rate
        if seconds * SAMPLE_RATE < least_samples:
            return AudioFault("too_short", f"{seconds:.3f} s")
    return Audio(path, seconds, (status.st_size, status.st_mtime_ns))
