"""Audio tried before the training: what cannot be heard is told at once, not an epoch later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from multiprocessing.pool import ThreadPool
from typing import Any

from speechbrain_ext.audio import AudioFault, read_audio, read_header
from speechbrain_ext.errors import UserError

REMEDY = "mount or mend the folder, or run stage 1 again"


def check_train_audio(manifest: str, rows: Iterable[Mapping[str, Any]], threads: int) -> None:
    """Refuse a manifest with a speaker none of whose files can be opened.

    A folder that is not mounted, say. A file here and there is ``max_unreadable``'s affair.

    Arguments
    ---------
    manifest : str
        Its path, for the sentence.
    rows : iterable of mappings
        Its rows, gone through more than once: ``wav`` and ``spk_id``.
    threads : int
        Files looked at at a time.

    Raises
    ------
    UserError
        Naming a speaker, a file and the reason.
    """
    firsts: dict[str, str] = {}
    for row in rows:
        firsts.setdefault(row["spk_id"], row["wav"])
    faults = _faults(read_header, firsts.values(), threads)
    lost = {speaker for speaker, path in firsts.items() if path in faults}
    for row in rows if lost else ():
        if row["spk_id"] in lost and not _faults(read_header, [row["wav"]], 1):
            lost.remove(row["spk_id"])
    if lost:
        path = firsts[min(lost)]
        raise UserError(
            f"{manifest}: {len(lost)} of {len(firsts)} speakers have no file that can be read, "
            f"{min(lost)} for one ({path}: {faults[path]}): {REMEDY}"
        )


def check_valid_audio(manifest: str, rows: Iterable[Mapping[str, Any]], threads: int) -> None:
    """Refuse a manifest with a file that cannot be embedded; each is read whole.

    Arguments
    ---------
    manifest : str
        Its path, for the sentence.
    rows : iterable of mappings
        Its rows: ``wav``.
    threads : int
        Files read at a time.

    Raises
    ------
    UserError
        Naming a file and the reason.
    """
    paths = [row["wav"] for row in rows]
    faults = _faults(read_audio, paths, threads)
    if faults:
        path, why = next(iter(faults.items()))
        raise UserError(
            f"{manifest}: {len(faults)} of {len(paths)} files cannot be used ({path}: {why}): "
            f"{REMEDY}"
        )


def _faults(
    read: Callable[[str], Any], paths: Iterable[str], threads: int
) -> dict[str, str]:
    """The paths that cannot be read, and why."""

    def fault(path: str) -> tuple[str, str | None]:
        try:
            read(path)
        except AudioFault as fault:
            return path, fault.detail
        return path, None

    with ThreadPool(max(threads, 1)) as pool:
        return {path: why for path, why in pool.imap(fault, paths) if why is not None}
