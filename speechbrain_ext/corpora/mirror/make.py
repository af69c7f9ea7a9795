"""A mirror of speech: it is made to follow its source, and says what could not be converted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import torch

from speechbrain_ext import files
from speechbrain_ext.corpora.mirror.lists import is_list, speakers_of_list
from speechbrain_ext.corpora.mirror.recordings import (
    SourceSpeaker,
    groups_of_tree,
    speakers_of_tree,
)
from speechbrain_ext.corpora.mirror.speaker import Outcome, forget_speaker, mirror_speaker
from speechbrain_ext.errors import UserError
from speechbrain_ext.progress import progress_bar

MAX_FAILED = 0.05
#: Of the option ``--max_failed``, for ``add_argument``.
MAX_FAILED_OPTION: dict[str, Any] = {
    "type": float,
    "default": MAX_FAILED,
    "help": "share of the files to convert that may fail (default: %(default)s)",
}
SOURCE_NOTE = ".source"
_RECORDS = ".sources"


def mirror_speakers(
    speakers: Sequence[SourceSpeaker], mirror: Path, jobs: int, max_failed: float = MAX_FAILED
) -> Outcome:
    """Make a folder that holds the speakers' recordings, and no others.

    Arguments
    ---------
    speakers : sequence of SourceSpeaker
        Everybody who is to be in the mirror, from any number of trees.
    mirror : Path
        Where to put ``<mirror>/<speaker>/...``; files that cannot be converted are listed beside
        it, in ``<mirror>_failed.tsv``.
    jobs : int
        Speakers at a time.
    max_failed : float
        The share of the files to convert, 0 to 1, that may fail.

    Returns
    -------
    Outcome
        What became of all recordings.

    Raises
    ------
    UserError
        When ffmpeg is needed but missing, too many conversions fail, or a file cannot be written.
    """
    if jobs < 1:
        raise UserError(f"--jobs is {jobs} but must be at least 1.", code="bad-option")
    records = mirror / _RECORDS
    records.mkdir(parents=True, exist_ok=True)
    outcome, stopped = Outcome(), Event()

    def work(speaker: SourceSpeaker) -> Outcome:
        if stopped.is_set():
            return Outcome()
        record = records / f"{speaker.name}.json"
        return mirror_speaker(speaker, mirror / speaker.name, record, stopped.is_set)

    with files.exclusive(mirror):
        wanted = {speaker.name for speaker in speakers}
        there = {name for name in os.listdir(mirror) if not name.startswith(".")}
        remembered = {record.stem for record in records.iterdir()}
        for name in (there | remembered) - wanted:
            forget_speaker(mirror / name, records / f"{name}.json")
        # Threads suffice: what reads, resamples and writes audio lets the others go on.
        pool = ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,))
        try:
            done = pool.map(work, speakers)
            for part in progress_bar(done, total=len(speakers), desc="mirroring", unit=" folders"):
                outcome.add(part)
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)
    _remember_failures(failure_table(mirror), sorted(outcome.failed))
    to_convert = outcome.converted + len(outcome.failed)
    if len(outcome.failed) > max_failed * to_convert:
        raise UserError(
            f"{len(outcome.failed)} of {to_convert} files could not be converted, a larger share "
            f"than --max_failed {max_failed} allows; {failure_table(mirror)} says why: make "
            "those files again, or take them away.",
            code="unusable-audio",
        )
    return outcome


def failure_table(mirror: Path) -> Path:
    """Where the failed conversions of a mirror are listed.

    Example
    -------
    >>> failure_table(Path("data/voxceleb/dev")).as_posix()
    'data/voxceleb/dev_failed.tsv'
    """
    return mirror.with_name(f"{mirror.name}_failed.tsv")


def _remember_failures(table: Path, failed: list[tuple[str, str]]) -> None:
    if not failed:
        table.unlink(missing_ok=True)
        return
    with files.atomic_path(table) as temporary:
        lines = ["path\tdetail"] + [f"{path}\t{detail}" for path, detail in failed]
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")


def mirrored_source(mirror: str | os.PathLike[str]) -> str | None:
    """What a folder mirrors, a folder or a list; None where it is no mirror."""
    note = Path(mirror) / SOURCE_NOTE
    return note.read_text(encoding="utf-8").strip() if note.is_file() else None


def _check_claim(mirror: Path, source: Path) -> None:
    """Let a mirror reflect one source only."""
    path = str(source.resolve())
    previous = mirrored_source(mirror)
    if previous is not None:
        if previous != path:
            raise UserError(
                f"{mirror} was made from {previous}, not {path}; choose another --dst (another "
                "--name of run.sh), or delete that folder.",
                code="other-settings",
            )
    elif mirror.exists() and any(mirror.iterdir()):
        raise UserError(
            f"{mirror} holds files that this command did not make; choose another --dst (another "
            "--name of run.sh).",
            code="foreign-folder",
        )


def check_source(
    source: Path, mirror: Path, labelled: bool = True
) -> tuple[list[SourceSpeaker], Counter[str]]:
    """List a tree or list that is to be mirrored, before anything is made.

    Arguments
    ---------
    source : Path
        A folder that holds a folder for each speaker, or a list of
        :func:`~speechbrain_ext.corpora.mirror.lists.speakers_of_list`.
    mirror : Path
        The folder that is to reflect it.
    labelled : bool
        False for a folder that holds recordings anywhere, whoever speaks in them.

    Returns
    -------
    tuple of list of SourceSpeaker and Counter
        The speakers, and how many other files of each kind there are.

    Raises
    ------
    UserError
        When ``source`` holds no speakers, or ``mirror`` reflects another one or lies in it.
    """
    listed = labelled and is_list(source)
    if not labelled:
        found = groups_of_tree(source, mirror)
    elif listed:
        found = speakers_of_list(source), Counter[str]()
    else:
        found = speakers_of_tree(source, mirror)
    inside, outside = mirror.resolve(), source.resolve()
    if outside.is_relative_to(inside) or (not listed and inside.is_relative_to(outside)):
        raise UserError(
            f"--dst {mirror} and --src {source} lie one inside the other; choose a --dst outside "
            "(another --data_root of run.sh).",
            code="bad-option",
        )
    _check_claim(mirror, source)
    return found


def mirror_source(
    source: Path,
    mirror: Path,
    jobs: int,
    max_failed: float = MAX_FAILED,
    labelled: bool = True,
) -> Outcome:
    """Mirror a whole tree or list.

    Arguments and errors are those of :func:`check_source` and :func:`mirror_speakers`.
    """
    speakers, others = check_source(source, mirror, labelled)
    with files.atomic_path(mirror / SOURCE_NOTE) as temporary:
        temporary.write_text(f"{source.resolve()}\n", encoding="utf-8")
    outcome = mirror_speakers(speakers, mirror, jobs, max_failed)
    outcome.others.update(others)
    return outcome


def print_outcome(outcome: Outcome, mirror: Path) -> None:
    """Print what became of the recordings."""
    print(
        f"{mirror}: {outcome.linked:,} recordings used as they are, {outcome.converted:,} converted"
        + (f" ({outcome.converted_now:,} of them now)" if outcome.converted else "")
    )
    others = {kind: count for kind, count in outcome.others.items() if kind != "hidden"}
    if others:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(others).most_common())
        print(f"passed over {sum(others.values()):,} files of no known audio format: {kinds}")
    if outcome.failed:
        print(f"{len(outcome.failed):,} files cannot be converted: see {failure_table(mirror)}")
