"""Audio tried before the training: what cannot be heard is told at once, not an epoch later."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from speechbrain_ext.audio import AudioFault, read_audio, read_header
from speechbrain_ext.corpora.manifest import read_manifest
from speechbrain_ext.errors import UserError
from speechbrain_ext.workers import in_threads

REMEDY = "mount or mend the folder, or run stage 1 again"


def check_train_audio(path: str, threads: int) -> None:
    """Refuse a manifest with a speaker none of whose files can be opened.

    A folder that is not mounted, say. A file here and there is ``max_unreadable``'s affair.

    Arguments
    ---------
    path : str
        The manifest.
    threads : int
        Files looked at at a time.

    Raises
    ------
    UserError
        Naming a speaker, a file and the reason.
    """
    manifest = read_manifest(path)
    _, places = np.unique(manifest.speaker_index, return_index=True)
    firsts = [manifest.wavs[place] for place in places.tolist()]  # of the speakers in order
    faults = _faults(read_header, firsts, threads)
    lost = {number for number, wav in enumerate(firsts) if wav in faults}
    for place, speaker in enumerate(manifest.speaker_index) if lost else ():
        if speaker in lost and _fault(read_header, manifest.wavs[place]) is None:
            lost.remove(speaker)
    if lost:
        wav = firsts[min(lost)]
        raise UserError(
            f"{path}: {len(lost)} of {len(firsts)} speakers have no file that can be read, "
            f"{manifest.speakers[min(lost)]} for one ({wav}: {faults[wav]}): {REMEDY}"
        )


def check_valid_audio(path: str, threads: int) -> None:
    """Refuse a manifest with a file that cannot be embedded; each is read whole.

    Arguments
    ---------
    path : str
        The manifest.
    threads : int
        Files read at a time.

    Raises
    ------
    UserError
        Naming a file and the reason.
    """
    wavs = read_manifest(path).wavs
    faults = _faults(read_audio, wavs, threads)
    if faults:
        wav, why = next(iter(faults.items()))
        raise UserError(
            f"{path}: {len(faults)} of {len(wavs)} files cannot be used ({wav}: {why}): {REMEDY}"
        )


def _faults(read: Callable[[str], Any], paths: Iterable[str], threads: int) -> dict[str, str]:
    """The paths that cannot be read, and why."""

    def fault(path: str) -> tuple[str, str | None]:
        return path, _fault(read, path)

    with in_threads(fault, paths, threads) as results:
        return {path: why for path, why in results if why is not None}


def _fault(read: Callable[[str], Any], path: str) -> str | None:
    try:
        read(path)
    except AudioFault as fault:
        return fault.detail
    return None
